package bearer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// A resource server makes one verifier and asks it about every request.
func Example() {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	public, err := jwk.New(&private.PublicKey)
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := bearer.New(bearer.Config{
		Issuer:   "https://tokens.example.com",
		Audience: "https://api.example.com",
		Keys:     bearer.KeySetFunc(func() jwk.Set { return jwk.Set{Keys: []jwk.Key{public}} }),
	})
	if err != nil {
		log.Fatal(err)
	}

	issued := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": "https://tokens.example.com", "aud": "https://api.example.com", "sub": "sa_1", "client_id": "tbk_1", "jti": "1",
		"iat": time.Now().Unix(), "exp": time.Now().Add(10 * time.Minute).Unix(), "scope": "charts:read",
	})
	issued.Header["typ"], issued.Header["kid"] = "at+jwt", public.ID
	token, err := issued.SignedString(private)
	if err != nil {
		log.Fatal(err)
	}

	claims, err := verifier.Verify(context.Background(), token)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Subject, "may read charts:", claims.Scope.Has("charts:read"))

	_, err = verifier.Verify(context.Background(), token+"x")
	fmt.Println(errors.Is(err, bearer.ErrInvalid), err)
	// Output:
	// sa_1 may read charts: true
	// true invalid token: a part is not base64url
}
