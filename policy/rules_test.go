package policy_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

func TestParseRules(t *testing.T) {
	rules, err := policy.ParseRules(`{"max_lifetime_days": 180, "allow_never_expiring": false, "allowed_scopes": ["collectors:*", "*:read"], "disable_idle_after_days": null}`)
	if err != nil {
		t.Fatal(err)
	}
	if *rules.MaxLifetimeDays != 180 || *rules.AllowNever || len(*rules.AllowedScopes) != 2 || rules.IdleDays != nil || rules.Enabled != nil {
		t.Errorf("%+v", rules)
	}
}

func TestParseRulesRefuses(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{``, "object"},
		{`null`, "object"},
		{`[]`, "object"},
		{`{"max_lifetime_days": 1`, "object"},
		{`{"max_lifetime_days": 0}`, "max_lifetime_days is 0: use 1 to 3650"},
		{`{"max_lifetime_days": -1}`, "-1"},
		{`{"max_lifetime_days": 3651}`, "3651"},
		{`{"max_lifetime_days": 9223372036854775807}`, "9223372036854775807"},
		{`{"max_lifetime_days": 1e400}`, "max_lifetime_days"},
		{`{"max_lifetime_days": 99999999999999999999}`, "max_lifetime_days"},
		{`{"max_lifetime_days": 1.5}`, "max_lifetime_days"},
		{`{"max_lifetime_days": "90"}`, "max_lifetime_days"},
		{`{"max_lifetime_days": true}`, "max_lifetime_days"},
		{`{"Max_Lifetime_Days": 90}`, `"Max_Lifetime_Days" is not known`},
		{`{"max_lifetime": 90}`, `"max_lifetime" is not known`},
		{`{"max_lifetime_days": 90, "max_lifetime_days": null}`, "twice"},
		{`{"default_lifetime_days": 0}`, "default_lifetime_days is 0"},
		{`{"max_lifetime_days": 30, "default_lifetime_days": 90}`, "more than max_lifetime_days 30"},
		{`{"max_grace_period_seconds": -1}`, "0 to 604800"},
		{`{"max_grace_period_seconds": 604801}`, "604801"},
		{`{"disable_idle_after_days": 0}`, "disable_idle_after_days"},
		{`{"api_keys_enabled": 1}`, "api_keys_enabled"},
		{`{"allowed_scopes": "collectors:read"}`, "allowed_scopes"},
		{`{"allowed_scopes": ["collectors"]}`, "resource:action"},
		{`{"allowed_scopes": ["collectors:read:x"]}`, "resource:action"},
		{`{"allowed_scopes": [""]}`, "resource:action"},
		{`{"allowed_scopes": ["api-keys:read"]}`, "management rights"},
		{`{"allowed_scopes": ["a:b"` + strings.Repeat(`,"a:b"`, 100) + `]}`, "at most 100"},
	} {
		_, err := policy.ParseRules(c.text)
		if !errors.Is(err, workspace.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.80s: %v, want something about %q", c.text, err, c.says)
		}
	}
}

// FuzzParseRules: whatever is stored, it is refused or it makes bounds, and what it
// says survives being stored again.
func FuzzParseRules(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"max_lifetime_days":90}`, `{"allowed_scopes":["*:read"]}`, `{"api_keys_enabled":false,"allow_never_expiring":true}`,
		`{"max_lifetime_days":null}`, `{"max_lifetime_days":0}`, `{"x":1}`, `null`, `{"max_grace_period_seconds":0,"disable_idle_after_days":30}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := policy.ParseRules(text)
		if err != nil {
			return
		}
		b := policy.Combine(rules, policy.Rules{})
		if b.MaxLifetime < 0 || b.Idle < 0 || b.MaxGrace < 0 || b.DefaultLifetime <= 0 || b.MaxLifetime > 0 && b.DefaultLifetime > b.MaxLifetime {
			t.Fatalf("%s makes %+v", text, b)
		}
		again, err := json.Marshal(rules)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.ParseRules(string(again)); err != nil {
			t.Fatalf("%s is stored as %s, which is refused: %v", text, again, err)
		}
	})
}
