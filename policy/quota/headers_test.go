package quota_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy/quota"
)

func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(28*24*time.Hour + 12*time.Hour) // 2000-01-29, noon
		f := newFleet(t, 2, quota.Limits{PerMinute: n(600), Burst: n(1000), PerDay: n(10_000), PerMonth: n(20_000)})
		check := func(d quota.Decision, policy, state string) {
			t.Helper()
			if d.Policy() != policy || d.State() != state {
				t.Errorf("%s\n%s\nwant\n%s\n%s", d.Policy(), d.State(), policy, state)
			}
		}
		policy := `"minute";q=600;w=60, "day";q=10000;w=86400, "month";q=20000;w=2678400`
		check(f.spend(0), policy, `"minute";r=600;t=1, "day";r=9999;t=43200, "month";r=19999;t=216000`)
		for range 499 {
			f.spend(0)
		}
		pass(time.Millisecond)
		check(f.spend(0), policy, `"minute";r=499;t=1, "day";r=9499;t=43200, "month";r=19499;t=216000`)

		f = newFleet(t, 2, quota.Limits{PerMinute: n(6), Mode: quota.Soft})
		check(f.spendKey(0, "a", 7), `"minute";q=6;w=60;soft, "key";q=7;w=60;soft`, `"minute";r=5;t=10, "key";r=6;t=9`)

		f.line.down = true
		f.set(quota.Limits{PerMinute: n(6)})
		f.spend(1)
		check(f.spend(1), `"minute";q=6;w=60`, `"minute";r=1;t=20;degraded`)
		check(f.spend(1), `"minute";q=6;w=60`, `"minute";r=0;t=20;degraded`)
		check(f.spend(1), `"minute";q=6;w=60`, `"minute";r=0;t=20;degraded`)
	})
}

// What is left falls by one with each exchange, whether it comes from a lease or not.
func TestWhatIsLeftFalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, quota.Limits{PerMinute: n(6000), PerDay: n(10_000)})
		for i := range int64(1000) {
			if w := f.spend(0).Windows(); w[0].Left != 5999-i || w[1].Left != 9999-i {
				t.Fatalf("exchange %d: %+v", i+1, w)
			}
		}
		if trips := f.replicas[0].RoundTrips(); trips > 50 {
			t.Errorf("%d round trips", trips)
		}
	})
}

// Every pair of values is two Lists with the same names, within their bounds.
func TestHeadersAreLists(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		inBubble(t, func() { checkHeaders(r) })
	})
}

func checkHeaders(t *rapid.T) {
	perhaps := func(name string, most int64) *int64 {
		if rapid.Bool().Draw(t, name+"?") {
			return n(rapid.Int64Range(1, most).Draw(t, name))
		}
		return nil
	}
	limits := quota.Limits{
		PerMinute: perhaps("per minute", quota.MaxPerMinute), PerDay: perhaps("per day", quota.MaxExchanges),
		PerMonth: perhaps("per month", quota.MaxExchanges), Mode: rapid.SampledFrom([]quota.Mode{quota.Soft, quota.Enforce}).Draw(t, "mode"),
	}
	if limits.PerMinute != nil {
		limits.Burst = perhaps("burst", quota.MaxPerMinute)
	}
	pass(time.Duration(rapid.Int64Range(0, int64(100*24*time.Hour)).Draw(t, "at")))
	f := newFleet(t, rapid.IntRange(1, 3).Draw(t, "replicas"), limits)
	key := rapid.Int64Range(0, 3).Draw(t, "of the key")
	for range rapid.IntRange(1, 30).Draw(t, "exchanges") {
		pass(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
		f.line.down = rapid.Bool().Draw(t, "down")
		checkFields(t, f.spendKey(0, keys.ID("tbk_a"), key))
	}
}

func checkFields(t *rapid.T, d quota.Decision) {
	policy, state := d.Policy(), d.State()
	if len(d.Windows()) == 0 {
		if policy != "" || state != "" {
			t.Fatalf("%q %q without a limit", policy, state)
		}
		return
	}
	limits, err := parseList(policy)
	if err != nil {
		t.Fatalf("%s: %v", policy, err)
	}
	left, err := parseList(state)
	if err != nil || len(left) != len(limits) {
		t.Fatalf("%s\n%s: %v", policy, state, err)
	}
	for i, limit := range limits {
		now := left[i]
		q, w, r, wait := limit.number["q"], limit.number["w"], now.number["r"], now.number["t"]
		switch {
		case limit.name != now.name || limit.has != parametersOf("q w", d.Soft, "soft") || now.has != parametersOf("r t", d.Degraded, "degraded"):
			t.Fatalf("%s\n%s", policy, state)
		case q < 1 || w < 1 || r < 0 || r > q || wait < 0:
			t.Fatalf("%s\n%s", policy, state)
		case !d.Allowed && r > 0 && strings.Contains(fmt.Sprint(d.Violated), limit.name):
			t.Fatalf("%s is exceeded: %s", limit.name, state)
		}
	}
	if !d.Allowed && (d.Wait <= 0 || len(d.Violated) == 0) || d.Allowed && (d.Wait != 0 || !d.Soft && d.Violated != nil) {
		t.Fatalf("%+v", d)
	}
}

func parametersOf(always string, more bool, last string) string {
	if more {
		return always + " " + last
	}
	return always
}

// member is one of a List of RFC 9651: a String with parameters, each an Integer or
// the Boolean true.
type member struct {
	name   string
	has    string // names of its parameters, in their order
	number map[string]int64
}

// parseList reads a List as RFC 9651 section 4.2.1 does, of Strings only, and refuses
// what a serializer (section 4.1) would not write.
func parseList(text string) (list []member, err error) {
	for first := true; first || text != ""; first = false {
		if !first {
			var more bool
			if text, more = strings.CutPrefix(text, ", "); !more {
				return nil, fmt.Errorf("no comma and space before %q", text)
			}
		}
		m := member{number: map[string]int64{}}
		if m.name, text, err = parseString(text); err != nil {
			return nil, err
		}
		if text, err = m.parameters(text); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func parseString(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", fmt.Errorf("no String at %q", text)
	}
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return value, text[i+1:], nil
		case c == '\\':
			if i++; i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", "", fmt.Errorf("a wrong escape in %q", text)
			}
			value += string(text[i])
		case c < 0x20 || c > 0x7e:
			return "", "", fmt.Errorf("the character %#x in %q", c, text)
		default:
			value += string(c)
		}
	}
	return "", "", fmt.Errorf("no end of %q", text)
}

func (m *member) parameters(text string) (rest string, err error) {
	var names []string
	for strings.HasPrefix(text, ";") {
		text = text[1:]
		end := strings.IndexFunc(text, func(c rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_-.*", c)
		})
		if end < 0 {
			end = len(text)
		}
		name := text[:end]
		if name == "" || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz*", rune(name[0])) {
			return "", fmt.Errorf("no key at %q", text)
		}
		names = append(names, name)
		text = text[end:]
		if value, is := strings.CutPrefix(text, "="); is {
			if m.number[name], text, err = parseInteger(value); err != nil {
				return "", err
			}
		}
	}
	m.has = strings.Join(names, " ")
	return text, nil
}

func parseInteger(text string) (value int64, rest string, err error) {
	end := strings.IndexFunc(text, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(text)
	}
	if end > 15 {
		return 0, "", fmt.Errorf("more than 15 digits in %q", text)
	}
	value, err = strconv.ParseInt(text[:end], 10, 64)
	return value, text[end:], err
}

func TestParseListIsStrict(t *testing.T) {
	for _, wrong := range []string{``, `minute;q=1`, `"a"; q=1`, `"a";q=1,"b";q=1`, `"a";q=1,`, `"a";q=1, `, `"a";Q=1`, `"a";q=`, `"a";q=-`, `"a`, `"a";q=1 `, `"a";q=1234567890123456`} {
		if list, err := parseList(wrong); err == nil {
			t.Errorf("%q is taken for %+v", wrong, list)
		}
	}
}
