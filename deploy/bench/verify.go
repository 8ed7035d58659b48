package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// verified is what verifying a token costs, in processor time.
type verified struct {
	raw      time.Duration // ecdsa.Verify and json.Unmarshal
	ecdsa    time.Duration // ecdsa.Verify alone
	uncached time.Duration // oauth/bearer, each token as if it was new
	cached   time.Duration // and one that it remembers
}

// verifications measures oauth/bearer against what no verifier can do without, in
// rounds.
func verifications(rounds, times int, token string, set []byte) (all []verified, err error) {
	keys, err := bearer.ParseKeys(set)
	if err != nil {
		return nil, err
	}
	config := bearer.Config{Issuer: "http://localhost:8080", Audience: "https://api.example.com", Keys: keys}
	remembers, err := bearer.New(config)
	if err != nil {
		return nil, err
	}
	config.CacheSize = -1
	forgets, err := bearer.New(config)
	if err != nil {
		return nil, err
	}
	raw, err := newRawVerifier(set, token)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	for range rounds {
		var v verified
		for _, m := range []struct {
			into  *time.Duration
			times int
			do    func() error
		}{
			{&v.raw, times, raw.verifyAndDecode},
			{&v.ecdsa, times, raw.verify},
			{&v.uncached, times, func() error { _, err := forgets.Verify(ctx, token); return err }},
			{&v.cached, times * 20, func() error { _, err := remembers.Verify(ctx, token); return err }},
		} {
			if *m.into, err = costOf(m.times, m.do); err != nil {
				return nil, err
			}
		}
		all = append(all, v)
	}
	return all, nil
}

// costOf is the processor time of doing something, of all of this process.
func costOf(times int, do func() error) (time.Duration, error) {
	before := cpuOf(os.Getpid())
	for range times {
		if err := do(); err != nil {
			return 0, err
		}
	}
	return (cpuOf(os.Getpid()) - before) / time.Duration(times), nil
}

// rawVerifier is a signature and claims, taken apart before anything is measured.
type rawVerifier struct {
	key       *ecdsa.PublicKey
	input     string
	signature []byte
	payload   []byte
}

func newRawVerifier(set []byte, token string) (*rawVerifier, error) {
	var parsed jwk.Set
	if err := json.Unmarshal(set, &parsed); err != nil {
		return nil, err
	}
	var key *ecdsa.PublicKey
	for _, k := range parsed.Keys {
		public, err := k.Public()
		if err != nil {
			return nil, err
		}
		if ec, ok := public.(*ecdsa.PublicKey); ok {
			key = ec
		}
	}
	payload, errPayload := payloadOf(token)
	signature, errSignature := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	v := &rawVerifier{key, signingInput(token), signature, payload}
	return v, errors.Join(errPayload, errSignature, v.verify())
}

func (v *rawVerifier) verify() error {
	digest := sha256.Sum256([]byte(v.input))
	r, s := new(big.Int).SetBytes(v.signature[:32]), new(big.Int).SetBytes(v.signature[32:])
	if !ecdsa.Verify(v.key, digest[:], r, s) {
		return errors.New("the token's signature is not that of the published key")
	}
	return nil
}

func (v *rawVerifier) verifyAndDecode() error {
	var claims struct {
		Issuer      string `json:"iss"`
		Subject     string `json:"sub"`
		Audience    string `json:"aud"`
		ClientID    string `json:"client_id"`
		Expiry      int64  `json:"exp"`
		IssuedAt    int64  `json:"iat"`
		ID          string `json:"jti"`
		Scope       string `json:"scope"`
		WorkspaceID string `json:"workspace_id"`
		Workspace   string `json:"workspace"`
		KeyGen      int64  `json:"key_gen"`
		SubjectGen  int64  `json:"sub_gen"`
		WsGen       int64  `json:"ws_gen"`
	}
	return errors.Join(v.verify(), json.Unmarshal(v.payload, &claims))
}
