// Command kubernetes judges tokens as the API server of Kubernetes does, with its own code: it reads the
// file of --authentication-config that is its argument. One JSON object with a token
// a line comes in, one with the verdict goes out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

// authority is the CA that the file names for its issuer.
type authority string

func (a authority) CurrentCABundleContent() []byte { return []byte(a) }

// load reads the file, strictly, and has it validated.
func load(path string) (*apiserver.AuthenticationConfiguration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	object, err := runtime.Decode(codecs.UniversalDecoder(), text)
	if err != nil {
		return nil, err
	}
	config, ok := object.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("%s is a %T", path, object)
	}
	return config, validation.ValidateAuthenticationConfiguration(cel.NewDefaultCompiler(), config, nil).ToAggregate()
}

// newJudge waits until the issuer's metadata has been read.
func newJudge(ctx context.Context, path string) (oidc.AuthenticatorTokenWithHealthCheck, error) {
	config, err := load(path)
	if err != nil {
		return nil, err
	}
	options := oidc.Options{JWTAuthenticator: config.JWT[0], SupportedSigningAlgs: oidc.AllValidSigningAlgorithms()}
	if ca := config.JWT[0].Issuer.CertificateAuthority; ca != "" {
		options.CAContentProvider = authority(ca)
	}
	judge, err := oidc.New(ctx, options)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); judge.HealthCheck() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, judge.HealthCheck()
		}
	}
	return judge, nil
}

func main() {
	judge, err := newJudge(context.Background(), os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var question struct{ Token string }
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			log.Fatal(err)
		}
		answer, ok, err := judge.AuthenticateToken(context.Background(), question.Token)
		verdict := map[string]any{"ok": ok && err == nil, "error": fmt.Sprint(err)}
		if ok && err == nil {
			verdict["subject"] = strings.Join(append([]string{answer.User.GetName()}, answer.User.GetGroups()...), " ")
		}
		if err := out.Encode(verdict); err != nil {
			log.Fatal(err)
		}
	}
}
