package oauth_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/oauth"
)

const issuer = "https://login.example.com"

// Each row says something of its own, in sentences of printable characters.
func TestTopics(t *testing.T) {
	topics := oauth.Topics()
	if len(topics) < 33 {
		t.Errorf("there are %d topics", len(topics))
	}
	if !slices.IsSortedFunc(topics, func(a, b oauth.Help) int { return strings.Compare(string(a.Topic), string(b.Topic)) }) {
		t.Error("they are not sorted")
	}
	name := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	titles := map[string]bool{}
	for i, h := range topics {
		if !name.MatchString(string(h.Topic)) || (i > 0 && topics[i-1].Topic == h.Topic) {
			t.Errorf("the topic %q is no name or appears twice", h.Topic)
		}
		if h.Title == "" || titles[h.Title] {
			t.Errorf("%s: the title %q is empty or appears twice", h.Topic, h.Title)
		}
		titles[h.Title] = true
		if h.Status < 400 || http.StatusText(h.Status) == "" {
			t.Errorf("%s: the status is %d", h.Topic, h.Status)
		}
		checkSentences(t, h.Topic, "cause", h.Cause)
		checkSentences(t, h.Topic, "fix", h.Fix)
		if found, ok := h.Topic.Help(); !ok || found != h {
			t.Errorf("%s: Help finds %+v, %v", h.Topic, found, ok)
		}
	}
	if found, ok := oauth.Topic("nothing").Help(); ok || found != (oauth.Help{}) {
		t.Errorf("Help finds %+v", found)
	}
}

func checkSentences(t *testing.T, topic oauth.Topic, name, text string) {
	t.Helper()
	n := len(regexp.MustCompile(`\.( |$)`).FindAllString(text, -1))
	if len(text) < 40 || n < 1 || n > 3 || !strings.HasSuffix(text, ".") || !onlyAllowed(text) {
		t.Errorf("%s: the %s has %d sentences: %q", topic, name, n, text)
	}
}

// An error that says nothing more has the topic of its code, or of its status.
func TestDerivedTopics(t *testing.T) {
	for _, c := range []struct {
		err  oauth.Error
		want oauth.Topic
	}{
		{oauth.Error{Code: oauth.InvalidRequest, Status: 400}, oauth.TopicRequestMalformed},
		{oauth.Error{Code: oauth.InvalidRequest, Status: 405}, oauth.TopicMethodNotAllowed},
		{oauth.Error{Code: oauth.InvalidRequest, Status: 413}, oauth.TopicBodyTooLarge},
		{oauth.Error{Code: oauth.InvalidRequest, Status: 415}, oauth.TopicMediaTypeUnsupported},
		{oauth.Error{Code: oauth.InvalidClient, Status: 401}, oauth.TopicCredentialsMissing},
		{oauth.Error{Code: oauth.UnsupportedGrantType, Status: 400}, oauth.TopicGrantTypeUnsupported},
		{oauth.Error{Code: oauth.InvalidScope, Status: 400}, oauth.TopicScopeNotGranted},
		{oauth.Error{Code: oauth.InvalidTarget, Status: 400}, oauth.TopicAudienceNotGranted},
		{oauth.Error{Code: oauth.InvalidToken, Status: 401}, oauth.TopicTokenInvalid},
		{oauth.Error{Code: oauth.InsufficientScope, Status: 403}, oauth.TopicInsufficientPermissions},
		{oauth.Error{Code: oauth.TooManyFailures, Status: 429}, oauth.TopicTooManyFailures},
		{oauth.Error{Code: oauth.QuotaExceeded, Status: 429}, oauth.TopicQuotaExceeded},
		{oauth.Error{Code: oauth.TemporarilyUnavailable, Status: 503}, oauth.TopicTemporarilyUnavailable},
		{oauth.Error{Code: oauth.ServerError, Status: 500}, oauth.TopicServerError},
		{oauth.Error{Code: "unheard_of", Status: 400}, oauth.TopicRequestMalformed},
		{oauth.Error{Status: 401}, oauth.TopicCredentialsMissing},
		{oauth.Error{Status: 404}, oauth.TopicNotFound},
		{oauth.Error{Status: 418}, oauth.TopicRequestMalformed},
		{oauth.Error{Status: 502}, oauth.TopicServerError},
		{oauth.Error{Code: oauth.InvalidClient, Status: 401, Topic: oauth.TopicKeyExpired}, oauth.TopicKeyExpired},
	} {
		e := c.err.Explained(issuer)
		if e.Topic != c.want || e.URI != issuer+"/docs/errors/"+string(c.want) || c.err.URI != "" {
			t.Errorf("%+v: %s %s, want %s", c.err, e.Topic, e.URI, c.want)
		}
		if _, ok := e.Topic.Help(); !ok {
			t.Errorf("%s has no page", e.Topic)
		}
	}
}

func TestTopicErrorf(t *testing.T) {
	for _, h := range oauth.Topics() {
		if e := h.Topic.Errorf("a %q", "b"); e.Topic != h.Topic || e.Status != h.Status || e.Description != "a 'b'" || e.Error() != string(h.Topic)+": a 'b'" {
			t.Errorf("%+v", e)
		}
	}
	if e := oauth.Topic("nothing").Errorf("x"); e.Status != http.StatusInternalServerError {
		t.Errorf("%+v", e)
	}
}

// RFC 6749 §5.2: error_uri holds no other characters, whatever the address is.
func TestErrorURI(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := oauth.Errorf(oauth.InvalidScope, "x")
		e.URI = "https://" + texts().Draw(t, "host")
		var wire struct {
			URI string `json:"error_uri"`
		}
		text, err := json.Marshal(e)
		if err != nil || json.Unmarshal(text, &wire) != nil || !onlyAllowed(wire.URI) || strings.Contains(wire.URI, " ") {
			t.Fatalf("%s, %v", text, err)
		}
		if onlyAllowed(e.URI) && !strings.Contains(e.URI, " ") && wire.URI != e.URI {
			t.Fatalf("%q became %q", e.URI, wire.URI)
		}
	})
	e := oauth.Errorf(oauth.InsufficientScope, "x").Explained(issuer)
	if got, want := e.Challenge(""), `Bearer error="insufficient_scope", error_description="x", error_uri="https://login.example.com/docs/errors/insufficient_permissions"`; got != want {
		t.Errorf("the challenge is %s, want %s", got, want)
	}
}

// RFC 9457 §3.1, §4.2.1: the type is the page, and about:blank has the title of
// the status.
func TestProblem(t *testing.T) {
	e := oauth.TopicLastOwner.Errorf("You are the last owner.")
	p := e.Explained(issuer).Problem("req_1")
	p.Errors = []oauth.FieldError{{Pointer: "/role", Detail: "has to be owner"}}
	text, err := json.Marshal(p)
	const want = `{"type":"https://login.example.com/docs/errors/last_owner","title":"Last owner of the workspace","status":409,` +
		`"detail":"You are the last owner.","code":"last_owner","errors":[{"pointer":"/role","detail":"has to be owner"}],` +
		`"request_id":"req_1","success":false,"error":"You are the last owner."}`
	if err != nil || string(text) != want {
		t.Errorf("the problem is %s, want %s", text, want)
	}
	blank := oauth.Problem{
		Type: "about:blank", Title: "Conflict", Status: 409, Detail: e.Description, Code: oauth.TopicLastOwner, Error: e.Description,
	}
	if got := e.Problem(""); !equalProblems(got, blank) {
		t.Errorf("without an address it is %+v", got)
	}
	if got := (&oauth.Error{Status: 500}).Problem(""); got.Detail == "" || got.Error != got.Detail || got.Code != oauth.TopicServerError {
		t.Errorf("without a description it is %+v", got)
	}
}

func equalProblems(a, b oauth.Problem) bool {
	first, _ := json.Marshal(a)
	second, _ := json.Marshal(b)
	return string(first) == string(second)
}
