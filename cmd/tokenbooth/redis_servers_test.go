package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// watched is a Redis under a URL, and what its watcher logs.
type watched struct {
	*redisStatus
	t   *testing.T
	log *output
}

// watch does not run yet.
func watch(t *testing.T, url, caFile string) *watched {
	t.Helper()
	config := new(Config)
	config.Redis.URL, config.Redis.CAFile = url, caFile
	log := new(output)
	status, err := newRedisStatus(config, logTo(log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		status.close()
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("the log holds the password:\n%s", log)
		}
	})
	return &watched{status, t, log}
}

// start runs the watcher until the function that it returns.
func (w *watched) start() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// incr is a call as a request makes it.
func (w *watched) incr(ctx context.Context) error {
	return w.client.Incr(ctx, "tokenbooth:count").Err()
}

// works waits until calls do, since a busy machine may miss a time limit.
func (w *watched) works() {
	w.t.Helper()
	eventually(w.t, "a Redis that answers", func() bool { return w.incr(w.t.Context()) == nil })
}

// wantReady wants a start to succeed with a Redis in this state, however late a busy
// machine answers.
func (w *watched) wantReady(state string) {
	w.t.Helper()
	eventually(w.t, "the state "+state, func() bool {
		if err := w.ready(w.t.Context()); err != nil {
			w.t.Fatalf("ready: %v\n%s", err, w.log)
		}
		return w.text() == state
	})
}

// wantRefused wants a start to be refused with a sentence that tells no password.
func (w *watched) wantRefused(says string) {
	w.t.Helper()
	var err error
	eventually(w.t, "a refusal: "+says, func() bool { err = w.ready(w.t.Context()); return err != nil })
	if text := err.Error(); !strings.Contains(text, says) || strings.Contains(text, "hunter2") {
		w.t.Errorf("ready: %v, want an error with %q and no password\n%s", err, says, w.log)
	}
}

// authority is a CA of one test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	der         []byte
}

func newCA(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: t.Name()}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	key := newECKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key, der}
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) write(t *testing.T, path string) { writePEM(t, path, "CERTIFICATE", a.der) }

// issue writes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T, certFile, keyFile string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	key := newECKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", der)
	if der, err = x509.MarshalECPrivateKey(key); err != nil {
		t.Fatal(err)
	}
	writePEM(t, keyFile, "EC PRIVATE KEY", der)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freePort is a port that nothing listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

// startSentinel runs a Sentinel that watches a master under the name "booth", and
// returns its address. Its end comes with the pipe's, however this process ends.
func startSentinel(t *testing.T, master string) string {
	t.Helper()
	host, masterPort, err := net.SplitHostPort(master)
	if err != nil {
		t.Fatal(err)
	}
	port, dir := freePort(t), t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor booth %s %s 1\n"+
		"sentinel down-after-milliseconds booth 500\nsentinel failover-timeout booth 5000\n", port, dir, host, masterPort)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `redis-server "$0" --sentinel >&2 & read -r _; kill -9 $!; wait $!`, file)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	return "127.0.0.1:" + port
}

// deaf is a server that calls itself a whole cluster. It sends the first GET away,
// to itself, and answers nothing else; it counts the other commands.
type deaf struct {
	listener net.Listener
	counted  atomic.Int32
}

func startDeaf(t *testing.T) *deaf {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	d := &deaf{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go d.serve(conn)
		}
	}()
	return d
}

func (d *deaf) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_, port, _ := net.SplitHostPort(d.listener.Addr().String())
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		words, _ := strconv.Atoi(strings.TrimPrefix(lines.Text(), "*"))
		var command []string
		for range words {
			lines.Scan() // its length
			lines.Scan()
			command = append(command, lines.Text())
		}
		switch {
		case len(command) == 0:
		case command[0] == "hello":
			_, _ = io.WriteString(conn, "-ERR unknown command\r\n")
		case command[0] == "cluster":
			_, _ = fmt.Fprintf(conn, "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%s\r\n", port)
		case d.counted.Add(1) == 1 && command[0] == "get":
			_, _ = fmt.Fprintf(conn, "-MOVED 1 127.0.0.1:%s\r\n", port)
		case command[0] == "get":
			_, _ = io.WriteString(conn, "$1\r\n1\r\n")
		}
	}
}
