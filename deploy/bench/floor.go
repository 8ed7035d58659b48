package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

// The floors are this program again, as a server without anything but HTTP: what an
// exchange cannot cost less than. They read the same form and answer the same bytes,
// header and body.

// floorAnswer is what a floor answers, as the service did.
type floorAnswer struct {
	Header http.Header
	Body   string
	Claims string // what a signature signs
}

// serveFloor is the program of a floor: kind is nethttp or echo. The answer comes on
// standard input, the address goes to standard output.
func serveFloor(kind string) error {
	var answer floorAnswer
	if err := json.NewDecoder(os.Stdin).Decode(&answer); err != nil {
		return fmt.Errorf("the answer to give: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	handler, err := floorHandler(kind, answer)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, listener.Addr())
	return (&http.Server{Handler: handler}).Serve(listener) //nolint:gosec // bare is what it is for
}

func floorHandler(kind string, answer floorAnswer) (http.Handler, error) {
	switch kind {
	case "nethttp":
		return bareHandler(answer), nil
	case "echo":
		e := echo.New()
		e.POST("/api/login", func(c echo.Context) error {
			if _, err := io.ReadAll(c.Request().Body); err != nil {
				return err
			}
			fill(c.Response().Header(), answer.Header)
			return c.String(http.StatusOK, answer.Body)
		})
		return e, nil
	}
	return nil, fmt.Errorf("unknown floor %q", kind)
}

// signedLogin is where the bare server signs once before it answers.
const signedLogin = "/signed/login"

func bareHandler(answer floorAnswer) http.Handler {
	signing, err := newSigning(answer.Claims)
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return
		}
		fill(w.Header(), answer.Header)
		_, _ = io.WriteString(w, answer.Body)
	}
	mux.HandleFunc("POST /api/login", reply)
	mux.HandleFunc("POST "+signedLogin, func(w http.ResponseWriter, r *http.Request) {
		if err := errors.Join(err, signing.sign(1)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reply(w, r)
	})
	mux.HandleFunc("POST /sign/{times}", func(w http.ResponseWriter, r *http.Request) {
		times, errTimes := strconv.Atoi(r.PathValue("times"))
		if err := errors.Join(err, errTimes, signing.sign(times)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "signed")
	})
	return mux
}

func fill(header, with http.Header) {
	for name, values := range with {
		header[name] = values
	}
}

// signing makes the signature that an exchange cannot do without, as the standard
// library makes it by default: ES256 with a hedged nonce, of the same claims.
type signing struct {
	key   *ecdsa.PrivateKey
	input string
}

func newSigning(claims string) (*signing, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &signing{key, claims}, err
}

func (s *signing) sign(times int) error {
	for range times {
		digest := sha256.Sum256([]byte(s.input))
		if _, err := ecdsa.SignASN1(rand.Reader, s.key, digest[:]); err != nil {
			return err
		}
	}
	return nil
}

// signingInput is the part of a token that is signed.
func signingInput(token string) string { return token[:strings.LastIndexByte(token, '.')] }

// startFloor starts a floor on the measured core.
func (m *machine) startFloor(kind string, answer floorAnswer) (*process, target, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, target{}, err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, target{}, err
	}
	cmd := exec.Command(program, "floor", kind) //nolint:gosec // this program
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	var address string
	p, err := m.launch(cmd, false, func(line string) bool { address = line; return true })
	return p, floorTarget(address, "/api/login"), err
}

func floorTarget(address, path string) target {
	return target{address: address, requests: [][]byte{formRequest(path, "floor", strings.Repeat("x", 63))}}
}

// loginRequest is an exchange as curl sends it.
func loginRequest(id, secret string) []byte { return formRequest("/api/login", id, secret) }

func formRequest(path, id, secret string) []byte {
	body := "grant_type=client_credentials&client_id=" + id + "&client_secret=" + secret
	return []byte("POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n" +
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// payloadOf is the payload of a token, decoded.
func payloadOf(token string) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the access token is not a JWS")
	}
	return base64.RawURLEncoding.DecodeString(parts[1])
}
