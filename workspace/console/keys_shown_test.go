package console

import (
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

func TestPermissionsInShort(t *testing.T) {
	t.Parallel()
	catalogue, err := policy.NewCatalogue(map[string][]string{"collectors": {"read", "create"}, "jobs": {"list", "run"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, scopes := range map[string]oauth.Scope{
		"None": {}, "Read-only": oauth.NewScope("collectors:read", "jobs:list"), "Custom (2)": oauth.NewScope("collectors:read", "jobs:run"),
		"Custom (1)": oauth.NewScope("jobs:readwrite"), "Full": oauth.NewScope("collectors:read", "collectors:create", "jobs:list", "jobs:run"),
	} {
		s := shownKey{}
		if s.permit(scopes, catalogue); s.Permissions != want || len(s.Scopes) != len(scopes) {
			t.Errorf("%v: %s, want %s", scopes, s.Permissions, want)
		}
	}
}

func TestUrgency(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]string{
		14*day + time.Second: "", 14 * day: "warn", 3*day + time.Second: "warn", 3 * day: "danger", time.Second: "danger",
	} {
		if got := urgency(workspace.At(noon.Add(left)), noon); got != want {
			t.Errorf("%s before the end: %q, want %q", left, got, want)
		}
	}
	if got := urgency(workspace.Time{}, noon); got != "" {
		t.Errorf("without an end: %q", got)
	}
}

// Of what can be said of a key, the pill says what matters most.
func TestPillOfKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key  shownKey
		want string
	}{
		{shownKey{Status: keys.StatusActive}, "Active"},
		{shownKey{Status: keys.StatusExpiring, Urgency: "warn"}, "Expiring soon"},
		{shownKey{Status: keys.StatusExpiring, Urgency: "danger"}, "About to expire"},
		{shownKey{Status: keys.StatusExpiring, Urgency: "danger", Blocked: []string{"x"}}, "Blocked"},
		{shownKey{Status: keys.StatusExpired}, "Expired"},
		{shownKey{Status: keys.StatusRevoked, Urgency: "danger"}, "Revoked"},
	} {
		if got := c.key.pill()["text"]; got != c.want {
			t.Errorf("%+v: %s, want %s", c.key, got, c.want)
		}
	}
}

func TestRotatingUntil(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) workspace.Time { return workspace.At(noon.Add(d)) }
	for _, c := range []struct {
		secrets []keys.ListedSecret
		want    workspace.Time
	}{
		{nil, workspace.Time{}},
		{[]keys.ListedSecret{{}}, workspace.Time{}},
		{[]keys.ListedSecret{{}, {ExpiresAt: at(time.Hour)}}, at(time.Hour)},
		{[]keys.ListedSecret{{}, {ExpiresAt: at(0)}}, workspace.Time{}},
		{[]keys.ListedSecret{{}, {ExpiresAt: at(time.Minute)}, {ExpiresAt: at(-time.Hour)}}, at(time.Minute)},
	} {
		if got := rotatingUntil(keys.Listed{Secrets: c.secrets}, noon); got != c.want {
			t.Errorf("%v: %v, want %v", c.secrets, got, c.want)
		}
	}
}

// Every rule that a key can break is told in words.
func TestBlockedInWords(t *testing.T) {
	t.Parallel()
	for _, rule := range []policy.Rule{policy.RuleEnabled, policy.RuleMaxLifetime, policy.RuleAllowNever, policy.RuleNetworks, policy.RuleIdle, "max_uses"} {
		if blockedText(string(rule)) == string(rule) {
			t.Errorf("%s has no words", rule)
		}
	}
}
