package endpoint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"testing"
	"time"
)

// BenchmarkExchange reports what an exchange of a known key costs, without the
// socket, as a multiple of an ES256 signature with a random nonce. The one that the
// exchange makes has none and takes about 0.75 of that. Both are measured in turns,
// so that a busy machine slows both.
func BenchmarkExchange(b *testing.B) {
	booth := newBooth(b, options{idle: true})
	body := form(string(booth.active.ID), booth.active.Secret.Reveal()).Encode()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("a signing input"))
	var exchanging, signing time.Duration
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		if a := booth.serve(body, "192.0.2.1:99"); a.Code != http.StatusOK {
			b.Fatal(a.Code)
		}
		exchanged := time.Now()
		if _, err := ecdsa.SignASN1(rand.Reader, private, digest[:]); err != nil {
			b.Fatal(err)
		}
		exchanging, signing = exchanging+exchanged.Sub(began), signing+time.Since(exchanged)
	}
	b.ReportMetric(float64(exchanging)/float64(signing), "signatures/exchange")
	b.ReportMetric(float64(exchanging.Nanoseconds())/float64(b.N), "ns/exchange")
	booth.log.take()
}
