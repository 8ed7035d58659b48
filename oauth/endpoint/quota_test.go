package endpoint_test

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// limited is a booth whose workspace has a quota.
func limited(t *testing.T, now func() time.Time, limits quota.Limits) *booth {
	t.Helper()
	b := newBooth(t, options{now: now})
	must(b.manager.SetQuota(t.Context(), operator, b.workspace.ID, limits))
	return b
}

func ptr[T any](v T) *T { return &v }

// item is one member of a RateLimit field (RFC 9651 §3.1, §3.1.2).
type item struct {
	name       string
	parameters map[string]int64
	flags      []string
}

var (
	listForm      = regexp.MustCompile(`^("[a-z]+"(;[a-z]+(=\d{1,15})?)*)(, "[a-z]+"(;[a-z]+(=\d{1,15})?)*)*$`)
	parameterForm = regexp.MustCompile(`^([a-z]+)=(\d+)$`)
)

// items reads a field that has to be a list of strings with parameters that are
// non-negative integers or flags.
func items(t *testing.T, header http.Header, field string) []item {
	t.Helper()
	values := header.Values(field)
	if len(values) != 1 || !listForm.MatchString(values[0]) {
		t.Fatalf("%s: %q is no list of strings with integers", field, values)
	}
	var found []item
	for text := range strings.SplitSeq(values[0], ", ") {
		parts := strings.Split(text, ";")
		i := item{name: strings.Trim(parts[0], `"`), parameters: map[string]int64{}}
		for _, p := range parts[1:] {
			if m := parameterForm.FindStringSubmatch(p); m != nil {
				n, err := strconv.ParseInt(m[2], 10, 64)
				if _, twice := i.parameters[m[1]]; err != nil || twice {
					t.Fatalf("%s: %s", field, text)
				}
				i.parameters[m[1]] = n
				continue
			}
			i.flags = append(i.flags, p)
		}
		found = append(found, i)
	}
	return found
}

// Every successful exchange of a workspace that has limits tells of them
// (draft-ietf-httpapi-ratelimit-headers-10 §3, §4; rows H120, H121, H127).
func TestRateLimitFields(t *testing.T) {
	b := limited(t, clock(noon), quota.Limits{PerMinute: ptr[int64](60), Burst: ptr[int64](10), PerDay: ptr[int64](100), PerMonth: ptr[int64](1000)})
	last := map[string]int64{"minute": 11, "day": 101, "month": 1001}
	for range 5 {
		a := b.login(formOf(b.active)).want(b, http.StatusOK, "")
		policies, states := items(t, a.header, "RateLimit-Policy"), items(t, a.header, "RateLimit")
		if len(policies) != 3 || len(states) != 3 {
			t.Fatalf("%v / %v", policies, states)
		}
		for i, p := range policies {
			s := states[i]
			if p.name != s.name {
				t.Errorf("%s beside %s", p.name, s.name)
			}
			if p.parameters["w"] <= 0 || s.parameters["r"] > p.parameters["q"] || s.parameters["r"] >= last[s.name] {
				t.Errorf("%v, %v after %d", p, s, last[s.name])
			}
			last[s.name] = s.parameters["r"]
		}
		for name := range a.header {
			if strings.HasPrefix(strings.ToLower(name), "x-ratelimit") {
				t.Errorf("%s: the forms before the draft are not sent", name)
			}
		}
	}
	if a := newBooth(t, options{}); true {
		header := a.login(formOf(a.active)).header
		if header.Get("RateLimit") != "" || header.Get("RateLimit-Policy") != "" {
			t.Error("without limits there is something to tell")
		}
	}
}

// Past the limit: 429, the members of both conventions, and a time to come back at
// which there is something (rows H122, H126).
func TestQuotaExceeded(t *testing.T) {
	now := noon
	b := limited(t, func() time.Time { return now }, quota.Limits{PerMinute: ptr[int64](6), Burst: ptr[int64](2)})
	for range 2 {
		b.login(formOf(b.active)).want(b, http.StatusOK, "")
	}
	waits := map[int]bool{}
	for range 40 {
		a := b.login(formOf(b.active)).want(b, http.StatusTooManyRequests, "quota_exceeded")
		after, err := strconv.Atoi(a.header.Get("Retry-After"))
		reset := items(t, a.header, "RateLimit")[0].parameters["t"]
		if err != nil || after < 10 || int64(after) < reset {
			t.Fatalf("Retry-After %q, and more after %d", a.header.Get("Retry-After"), reset)
		}
		waits[after] = true
		problem := a.object(b)
		if problem["type"] != oauth.QuotaType || problem["status"] != 429.0 || problem["title"] == "" || problem["detail"] != problem["error_description"] ||
			len(problem["violated-policies"].([]any)) != 1 || problem["violated-policies"].([]any)[0] != "minute" {
			t.Fatalf("%v", problem)
		}
		if a.header.Get("WWW-Authenticate") != "" {
			t.Fatal("credentials that are right are challenged")
		}
	}
	if len(waits) < 2 {
		t.Errorf("all are told to come back after %v", waits)
	}
	now = now.Add(10 * time.Second)
	b.login(formOf(b.active)).want(b, http.StatusOK, "")
	a := b.get(endpoint.WhoamiPath, setHeader("X-Api-Key", b.active.Secret.Reveal()))
	if a.status != http.StatusTooManyRequests || a.header.Get("RateLimit") == "" || a.object(b)["violated-policies"] == nil {
		t.Errorf("the key itself, used directly: %d %s", a.status, a.body)
	}
}

// Only what is proven is spent: whoever does not hold the secret neither uses the
// quota up nor sees how much is left (row H122's warning in the draft, §8.1).
func TestStrangersSpendNothing(t *testing.T) {
	b := limited(t, clock(noon), quota.Limits{PerMinute: ptr[int64](6), Burst: ptr[int64](2)})
	for range 20 {
		a := b.login(form(string(b.active.ID), b.wrong(b.active.ID))).want(b, http.StatusUnauthorized, "invalid_client")
		if a.header.Get("RateLimit") != "" {
			t.Fatal("a stranger is told what is left")
		}
		b.login(formOf(b.active, "scope", "collectors:fly")).want(b, http.StatusBadRequest, "invalid_scope")
	}
	for range 2 {
		b.login(formOf(b.active)).want(b, http.StatusOK, "")
	}
}

// Two workspaces count apart (row H124).
func TestQuotasAreApart(t *testing.T) {
	b := limited(t, clock(noon), quota.Limits{PerMinute: ptr[int64](6), Burst: ptr[int64](2)})
	other := must(b.manager.CreateWorkspace(t.Context(), operator, "Other", ""))
	must(b.manager.SetQuota(t.Context(), operator, other.ID, quota.Limits{PerMinute: ptr[int64](6), Burst: ptr[int64](3)}))
	theirs := b.keyOf(b.manager, other.ID, nil)
	for range 2 {
		b.login(formOf(b.active)).want(b, http.StatusOK, "")
	}
	b.login(formOf(b.active)).want(b, http.StatusTooManyRequests, "quota_exceeded")
	for range 3 {
		b.login(formOf(theirs)).want(b, http.StatusOK, "")
	}
	b.login(formOf(theirs)).want(b, http.StatusTooManyRequests, "quota_exceeded")
}

func TestSoftQuota(t *testing.T) {
	b := limited(t, clock(noon), quota.Limits{PerMinute: ptr[int64](6), Burst: ptr[int64](2), Mode: quota.Soft})
	for i := range 5 {
		a := b.login(formOf(b.active)).want(b, http.StatusOK, "")
		if p := items(t, a.header, "RateLimit-Policy"); !slices.Contains(p[0].flags, "soft") {
			t.Errorf("%v does not say that it only counts", p)
		}
		if s := items(t, a.header, "RateLimit"); i >= 2 && s[0].parameters["r"] != 0 {
			t.Errorf("%v", s)
		}
	}
}

// The limits that are in force are those of the last change that was answered.
func TestNewLimitsApplyAtOnce(t *testing.T) {
	b := limited(t, clock(noon), quota.Limits{PerMinute: ptr[int64](1), Burst: ptr[int64](1)})
	b.login(formOf(b.active)).want(b, http.StatusOK, "")
	b.login(formOf(b.active)).want(b, http.StatusTooManyRequests, "quota_exceeded")
	must(b.manager.SetQuota(t.Context(), operator, b.workspace.ID, quota.Limits{}))
	b.login(formOf(b.active)).want(b, http.StatusOK, "")
	must(b.manager.SetQuota(t.Context(), operator, b.workspace.ID, quota.Limits{PerDay: ptr[int64](1)}))
	b.login(formOf(b.active))
	b.login(formOf(b.active)).want(b, http.StatusTooManyRequests, "quota_exceeded")
}

// What policy blocks is told to the holder of the secret alone.
func TestPolicyOnTheWire(t *testing.T) {
	b := newBooth(t, options{})
	spent := b.key(func(n *manage.NewKey) { n.MaxUses = 1 })
	b.login(formOf(spent)).want(b, http.StatusOK, "")
	b.login(formOf(spent)).want(b, http.StatusUnauthorized, "invalid_client").says(b, oauth.TopicUsesExhausted)
	_, _, err := b.manager.SetKeyPolicy(t.Context(), operator, "", policy.Rules{MaxLifetimeDays: ptr[int64](7)})
	b.check(err)
	a := b.login(formOf(b.active)).want(b, http.StatusUnauthorized, "invalid_client")
	a.says(b, oauth.TopicBlockedByPolicy)
	if text, _ := a.object(b)["error_description"].(string); !strings.Contains(text, "at most 7 days") {
		t.Errorf("%s", text)
	}
	a = b.login(form(string(b.active.ID), b.wrong(b.active.ID))).want(b, http.StatusUnauthorized, "invalid_client")
	a.says(b, oauth.TopicCredentialsNotRecognised)
}

// says checks which page explains an error.
func (a answer) says(b *booth, topic oauth.Topic) {
	b.Helper()
	if uri, _ := a.object(b)["error_uri"].(string); uri != topic.URI(b.issuer) {
		b.Errorf("error_uri is %q, want that of %s", uri, topic)
	}
}
