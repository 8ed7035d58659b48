package adminhttp_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// atOnce counts the answers to calls that are made at once, by status and code.
func atOnce(calls int, call func(i int) reply) map[string]int {
	counts := map[string]int{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range calls {
		group.Go(func() {
			answer := call(i)
			mu.Lock()
			defer mu.Unlock()
			counts[strings.TrimSpace(fmt.Sprint(answer.status, " ", answer.code()))]++
		})
	}
	group.Wait()
	return counts
}

// A limit of keys or service accounts is exact, however many ask at once.
func TestLimitsOfObjects(t *testing.T) { on(t, limitsOfObjects) }

func limitsOfObjects(h *house) {
	t := h.TB
	me := h.owner.secret
	h.want(201, me, post, h.in("/service-accounts"), object{"name": "ci", "role": "viewer"})
	usage := h.want(200, me, get, h.in("/quota"), nil)
	keys, accounts := usage.inner("usage", "live_keys").(float64), usage.inner("usage", "service_accounts").(float64)
	if keys != 1 || accounts != 1 {
		t.Errorf("usage: %s", usage.body)
	}
	h.want(200, me, put, h.in("/quota"), object{"max_keys": keys + 10, "max_service_accounts": accounts + 10})
	for path, body := range map[string]func(int) object{
		"/service-accounts/ci/keys": func(i int) object { return object{"name": fmt.Sprint("key-", i)} },
		"/service-accounts":         func(i int) object { return object{"name": fmt.Sprint("sa-", i), "role": "viewer"} },
	} {
		counts := atOnce(20, func(i int) reply { return h.call(me, post, h.in(path), body(i)) })
		if counts["201"] != 10 || counts["409 limit_reached"] != 10 {
			t.Errorf("%s: %v", path, counts)
		}
	}
	usage = h.want(200, me, get, h.in("/quota"), nil)
	if usage.inner("usage", "live_keys") != keys+10 || usage.inner("usage", "service_accounts") != accounts+10 {
		t.Errorf("usage: %s", usage.body)
	}
	if got := h.want(409, me, post, h.in("/keys"), object{"name": "more", "service_account": "ci"}); !strings.Contains(got.text("detail"), "11 live API keys, and its quota allows no more") {
		t.Errorf("one more: %s", got.body)
	}
	h.want(409, me, post, h.in("/keys"), object{"name": "sa-new"}) // neither an account nor a key
	h.want(404, me, get, h.in("/service-accounts/sa-new"), nil)
	preview := h.want(200, me, post, h.in("/quota/preview"), object{"max_keys": 3, "max_service_accounts": 11})
	findings := preview.object["findings"].([]any)
	if len(findings) != 1 || findings[0].(object)["rule"] != "max_keys" || preview.inner("usage", "live_keys") != 11.0 {
		t.Errorf("preview: %s", preview.body)
	}
	one := h.want(200, me, get, h.in("/keys?q=key-"), nil).data()[0]["client_id"].(string)
	h.want(200, me, post, h.in("/keys/"+one+"/revoke"), nil)
	h.want(201, me, post, h.in("/keys"), object{"name": "more", "service_account": "ci"})

	h.want(200, me, put, h.in("/quota"), object{"max_keys": 1, "max_service_accounts": 1, "mode": "soft"})
	h.want(201, me, post, h.in("/keys"), object{"name": "soft"})
	if events := h.want(200, me, get, h.in("/audit-events?action=quota.exceed"), nil).data(); len(events) != 2 || events[0]["detail"].(object)["most"] != 1.0 {
		t.Errorf("quota.exceed: %v", events)
	}
}

// Requests with a raw key spend of the quota and tell what is left; those with a
// token do not.
func TestRatesOfRawKeys(t *testing.T) { on(t, ratesOfRawKeys) }

func ratesOfRawKeys(h *house) {
	t := h.TB
	me := h.owner.secret
	if got := h.want(200, me, get, h.in("/keys"), nil).header; got.Get("RateLimit") != "" || got.Get("RateLimit-Policy") != "" {
		t.Errorf("without a limit: %v", got)
	}
	robot := h.account("robot", manage.NewServiceAccount{Scopes: policyRights()})
	token := h.token(robot.secret, issuer)
	h.want(200, me, put, h.in("/quota"), object{"exchanges_per_minute": 60, "burst": 2})
	first := h.want(200, robot.secret, get, h.in("/keys"), nil)
	if first.header.Get("RateLimit-Policy") != `"minute";q=60;w=60` || !strings.HasPrefix(first.header.Get("RateLimit"), `"minute";r=1;t=`) {
		t.Errorf("%v", first.header)
	}
	h.want(404, robot.secret, get, h.in("/keys/none"), nil) // it was a use all the same
	over := h.want(429, robot.secret, get, h.in("/keys"), nil)
	if over.code() != "quota_exceeded" || fmt.Sprint(over.list("violated-policies")) != "[minute]" || over.text("type") != "https://iana.org/assignments/http-problem-types#quota-exceeded" {
		t.Errorf("%s", over.body)
	}
	if over.header.Get("Retry-After") == "" || !strings.HasPrefix(over.header.Get("RateLimit"), `"minute";r=0;t=`) {
		t.Errorf("%v", over.header)
	}
	h.want(200, token, get, h.in("/keys"), nil)
	if _, err := h.exchange(robot.secret); err == nil {
		t.Error("an exchange past the quota")
	}
}

// A key is used as often as it was made for, however many use it at once.
func TestMaxUses(t *testing.T) { on(t, maxUses) }

func maxUses(h *house) {
	t := h.TB
	me := h.owner.secret
	key := h.want(201, me, post, h.in("/keys"), object{"name": "five", "max_uses": 5, "exchanges_per_minute": 1000})
	if key.object["max_uses"] != 5.0 || key.object["uses"] != 0.0 || key.object["exchanges_per_minute"] != 1000.0 {
		t.Errorf("%s", key.body)
	}
	secret, path := key.text("client_secret"), h.in("/keys/"+key.text("client_id"))
	var mu sync.Mutex
	var group sync.WaitGroup
	good := 0
	for range 20 {
		group.Go(func() {
			_, err := h.exchange(secret)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				good++
			}
		})
	}
	group.Wait()
	shown := h.want(200, me, get, path, nil)
	if good != 5 || shown.object["uses"] != 5.0 || fmt.Sprint(shown.list("blocked")) != "[max_uses]" {
		t.Errorf("%d exchanges: %s", good, shown.body)
	}
	if got := h.want(401, secret, get, h.in("/keys"), nil); got.code() != "uses_exhausted" {
		t.Errorf("a sixth use: %s", got.body)
	}
	if got := h.want(200, me, patch, path, object{"max_uses": 6}); len(got.list("blocked")) > 0 {
		t.Errorf("raised: %s", got.body)
	}
	h.token(secret)
	h.refused(secret)
	if got := h.want(200, me, patch, path, object{"max_uses": nil, "exchanges_per_minute": nil}); got.object["max_uses"] != nil || got.object["exchanges_per_minute"] != nil {
		t.Errorf("without limits: %s", got.body)
	}
	h.token(secret)
	for _, member := range []string{"max_uses", "exchanges_per_minute"} {
		for _, value := range []string{"0", "-1", "1.5", "9223372036854775807", "9223372036854775808", `"5"`, "true", "1000000001"} {
			for _, got := range []reply{
				h.call(me, post, h.in("/keys"), fmt.Sprintf(`{"name":"x",%q:%s}`, member, value)), h.call(me, patch, path, fmt.Sprintf(`{%q:%s}`, member, value)),
			} {
				if got.status != 422 || pointers(got)[0] != "/"+member {
					t.Errorf("%s %s: %d %s", member, value, got.status, got.body)
				}
			}
		}
	}
}

// Networks that are written as IPv6 but are of IPv4 addresses are those of IPv4,
// since that is what addresses are compared as.
func TestMappedNetworks(t *testing.T) { on(t, mappedNetworks) }

func mappedNetworks(h *house) {
	t := h.TB
	me := h.owner.secret
	key := h.want(201, me, post, h.in("/keys"), object{"name": "mapped", "allowed_cidrs": []string{"::ffff:192.0.2.0/120", "::ffff:a00:0/104", "::ffff:198.51.100.7", "2001:db8::/32"}})
	if got := strings.Join(key.list("allowed_cidrs"), " "); got != "192.0.2.0/24 10.0.0.0/8 198.51.100.7/32 2001:db8::/32" {
		t.Errorf("the networks are %s", got)
	}
	h.token(key.text("client_secret"))
	if got := h.want(201, me, post, h.in("/keys"), object{"name": "all-of-ipv4", "allowed_cidrs": []string{"::ffff:0:0/96"}}).list("allowed_cidrs")[0]; got != "0.0.0.0/0" {
		t.Errorf("all of IPv4 is %s", got)
	}
	for _, network := range []string{"::ffff:192.0.2.0/95", "::ffff:0:0/64", "::ffff:0:0/0"} {
		got := h.want(422, me, post, h.in("/keys"), object{"name": "x", "allowed_cidrs": []string{"192.0.2.0/24", network}})
		if pointers(got)[0] != "/allowed_cidrs/1" || !strings.Contains(got.text("detail"), "0.0.0.0/0") {
			t.Errorf("%s: %s", network, got.body)
		}
	}
}

// Text that is none would be changed silently.
func TestBodiesAreText(t *testing.T) {
	on(t, func(h *house) {
		for _, body := range []string{"{\"name\":\"a\xffb\"}", "{\"name\":\"\xc3\x28\"}", "{\"a\xff\":1}", "{\"name\":\"\xed\xa0\x80\"}"} {
			if got := h.want(400, h.owner.secret, post, h.in("/keys"), body); got.code() != "request_malformed" || !strings.Contains(got.text("detail"), "UTF-8") {
				h.Errorf("%q: %s", body, got.body)
			}
		}
		h.want(201, h.owner.secret, post, h.in("/service-accounts"), "{\"name\":\"ci\",\"description\":\"\u00e9\",\"role\":\"viewer\"}")
	})
}
