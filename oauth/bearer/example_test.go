package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// A service makes one verifier, and says at each route which scopes it needs. The
// keys are fetched from the issuer and followed when they rotate.
func Example() {
	verifier, err := bearer.New(bearer.Config{
		Issuer:   "https://tokens.example.com",
		Audience: "https://api.example.com",
	})
	if err != nil {
		log.Fatal(err)
	}
	charts := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		fmt.Fprintf(w, "the charts of workspace %s\n", claims.Workspace)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /charts", verifier.Require("charts:read")(charts))
	mux.Handle("POST /charts", verifier.Require("charts:read", "charts:create")(charts))
	server := &http.Server{Addr: "127.0.0.1:8081", Handler: mux}
	_ = server // server.ListenAndServe()
}

// Outside of net/http, a verifier is asked about the token itself.
func ExampleVerifier_Verify() {
	// With keys that nobody can fetch: as they were written by
	// `tokenbooth jwks --out FILE`.
	keys, err := bearer.ParseKeys([]byte(`{"keys":[{"kty":"EC","use":"sig","alg":"ES256","kid":"1","crv":"P-256",
		"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`))
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := bearer.New(bearer.Config{Issuer: "https://tokens.example.com", Audience: "https://api.example.com", Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	_, err = verifier.Verify(context.Background(), "eyJhbGciOiJub25lIiwia2lkIjoiMSIsInR5cCI6ImF0K2p3dCJ9.e30.")
	switch {
	case errors.Is(err, bearer.ErrInvalid):
		fmt.Println("401:", err)
	case err != nil:
		fmt.Println("503:", err) // keys are not available: nothing is wrong with the token
	}
	// Output:
	// 401: invalid token: its alg is not the one of its key
}

// With a file, a service that starts while the issuer is away verifies with the
// keys of its last run, for up to a day.
func ExampleNewRemote() {
	directory, err := os.UserCacheDir()
	if err != nil {
		log.Fatal(err)
	}
	keys, err := bearer.NewRemote(bearer.RemoteConfig{
		Issuer: "https://tokens.example.com",
		File:   filepath.Join(directory, "tokens.example.com.json"),
	})
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := bearer.New(bearer.Config{
		Issuer:   "https://tokens.example.com",
		Audience: "https://api.example.com",
		Keys:     keys,
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = verifier
}

// With a feed, a service knows what was revoked within a second. Routes that must
// not be used with a revoked token are closed while that cannot be known.
func ExampleNewFeed() {
	directory, err := os.UserCacheDir()
	if err != nil {
		log.Fatal(err)
	}
	feed, err := bearer.NewFeed(bearer.FeedConfig{
		Issuer: "https://tokens.example.com",
		File:   filepath.Join(directory, "tokens.example.com.revocations.json"),
		Observe: func(e bearer.FeedEvent) {
			if e.Failure != "" {
				log.Printf("revocations: %s: %v; what is known is of %s ago", e.Failure, e.Err, e.Age)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := bearer.New(bearer.Config{
		Issuer:      "https://tokens.example.com",
		Audience:    "https://api.example.com",
		Revocations: feed,
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /charts", verifier.Require("charts:read")(http.NotFoundHandler()))
	mux.Handle("DELETE /charts", verifier.RequireFresh("charts:delete")(http.NotFoundHandler()))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	_ = func() { // in main
		go feed.Run(ctx)
		log.Fatal(http.ListenAndServe("127.0.0.1:8081", mux)) //nolint:gosec // an example
	}
}
