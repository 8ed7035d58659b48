package keys_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys"
)

type exported struct{ Secret keys.Secret }

type hidden struct{ secret keys.Secret }

type deep struct {
	One  hidden
	Many []hidden
	By   map[string]*hidden
	Any  any
}

// A secret shows in no output: not in any verb, marshaller or logger, nor from
// inside another type, even in a field that fmt may only read by reflection.
func TestSecretNeverPrints(t *testing.T) {
	format := newFormat(t, "tb")
	secret := format.NewSecret(format.NewID(), keys.ServiceKey)
	for _, value := range []any{
		secret, &secret, []keys.Secret{secret}, map[string]keys.Secret{"a": secret}, map[keys.Secret]int{secret: 1},
		exported{secret}, &exported{secret}, hidden{secret}, &hidden{secret}, struct{ *hidden }{&hidden{secret}},
		deep{One: hidden{secret}, Many: []hidden{{secret}}, By: map[string]*hidden{"a": {secret}}, Any: hidden{secret}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%t", "%p", "%T", "%-200s", "%.300s", "%[1]*[1]v"} {
			secretMustBeAbsent(t, secret, verb, fmt.Sprintf(verb, value))
		}
		secretMustBeAbsent(t, secret, "Sprint", fmt.Sprint(value))
		secretMustBeAbsent(t, secret, "an error", fmt.Errorf("wrapped: %w", fmt.Errorf("%v", value)).Error())
		secretMustBeAbsent(t, secret, "a joined error", errors.Join(fmt.Errorf("%+v", value)).Error())
		if text, err := json.Marshal(value); err == nil {
			secretMustBeAbsent(t, secret, "JSON", string(text))
		}
		if text, err := xml.Marshal(value); err == nil {
			secretMustBeAbsent(t, secret, "XML", string(text))
		}
		secretMustBeAbsent(t, secret, "slog", logged(value))
	}
}

// logged is the value in both of slog's forms.
func logged(value any) string {
	var out bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(handler)
		log.Info("m", "value", value)
		log.With("value", value).WithGroup("g").Info("m", slog.Group("h", "value", value), "error", fmt.Errorf("%+v", value))
	}
	return out.String()
}

func secretMustBeAbsent(t *testing.T, secret keys.Secret, how, output string) {
	t.Helper()
	text := secret.Reveal()
	random := text[len(text)-49 : len(text)-6] // what nobody may learn
	for _, form := range []string{random, hex.EncodeToString([]byte(random)), base64.StdEncoding.EncodeToString([]byte(text))} {
		if strings.Contains(strings.ToLower(strings.ReplaceAll(output, " ", "")), strings.ToLower(form)) {
			t.Errorf("%s gives the secret away: %s", how, output)
		}
	}
	numbers := strings.Trim(fmt.Sprintf("%d", []byte(random)), "[]") // as the bytes of %d
	if strings.Contains(output, numbers) {
		t.Errorf("%s gives the secret away: %s", how, output)
	}
}

func TestSecretPrintsRedacted(t *testing.T) {
	format := newFormat(t, "tb")
	secret := format.NewSecret(format.NewID(), keys.ServiceKey)
	text, err := json.Marshal(exported{secret})
	check(t, err)
	if want := `{"Secret":"[redacted]"}`; string(text) != want {
		t.Errorf("JSON is %s, want %s", text, want)
	}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v", "%q", "%x"} {
		if got := fmt.Sprintf(verb, secret); got != "[redacted]" {
			t.Errorf("%s prints %s, want [redacted]", verb, got)
		}
	}
	if got := secret.String() + secret.GoString(); got != "[redacted][redacted]" {
		t.Errorf("String and GoString return %s", got)
	}
}
