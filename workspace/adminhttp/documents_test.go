package adminhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// Nobody overwrites what they have not seen, and what was read can be sent back.
func TestEditingDocuments(t *testing.T) { on(t, editingDocuments) }

func editingDocuments(h *house) {
	t := h.TB
	me := h.owner.secret
	for path, member := range map[string]string{"/policy": "max_lifetime_days", h.in("/policy"): "disable_idle_after_days", h.in("/quota"): "max_keys"} {
		first := h.want(200, me, get, path, nil)
		if first.header.Get("ETag") != `"0"` || first.object["updated_at"] != nil || first.text("updated_by") != "" {
			t.Errorf("%s: %s %s", path, first.header.Get("ETag"), first.body)
		}
		edited := first.object
		edited[member] = 3000
		second := h.want(200, me, put, path, edited, header("If-Match", `"0"`))
		if second.header.Get("ETag") != `"1"` || second.object[member] != 3000.0 || second.object["updated_at"] == nil || second.text("updated_by") != string(h.owner.user) {
			t.Errorf("%s: %s %s", path, second.header.Get("ETag"), second.body)
		}
		for _, stale := range []string{`"0"`, `W/"1"`, `"x"`} {
			if got := h.want(412, me, put, path, object{}, header("If-Match", stale)); got.code() != "precondition_failed" {
				t.Errorf("%s: %s", path, got.body)
			}
		}
		if again := h.want(200, me, put, path, second.object, header("If-Match", `"7", "1"`)); again.header.Get("ETag") != `"1"` {
			t.Errorf("%s: the same again is version %s", path, again.header.Get("ETag"))
		}
		odd := object{member: 2900, "version": "x", "updated_at": 1, "updated_by": []int{}}
		if odd["effective"] = nil; member == "max_keys" {
			delete(odd, "effective")
			odd["usage"] = false
		}
		if preview := h.want(200, me, post, path+"/preview", odd); preview.header.Get("ETag") != "" {
			t.Errorf("%s: a preview has a version", path)
		}
		if got := h.want(200, me, get, path, nil); string(got.body) != string(second.body) {
			t.Errorf("%s: %s, want %s", path, got.body, second.body)
		}
		h.want(200, me, put, path, object{})
	}
	for chain, path := range map[string]string{h.in("/audit-events"): h.in("/policy"), "/audit-events": "/policy"} {
		events := h.want(200, me, get, chain+"?action=policy.update", nil).data()
		if len(events) != 2 {
			t.Errorf("%s: %d events", path, len(events))
			continue
		}
		detail := events[1]["detail"].(object)
		changed := func(side string) (found []string) {
			for name, value := range detail[side].(object) {
				if value != nil {
					found = append(found, fmt.Sprint(name, "=", value))
				}
			}
			return found
		}
		if len(changed("before")) > 0 || len(changed("after")) != 1 || detail["version"] != 1.0 || detail["keys_blocked"] == nil || events[1]["actor_id"] != string(h.owner.user) {
			t.Errorf("%s: %v", path, events[1])
		}
	}
	if events := h.want(200, me, get, h.in("/audit-events?action=quota.update"), nil).data(); len(events) != 2 || events[1]["detail"].(object)["after"].(object)["max_keys"] != 3000.0 {
		t.Errorf("quota: %v", events)
	}
}

// What is no document is refused, with where it is wrong, and nothing is changed.
func TestBadDocuments(t *testing.T) { on(t, badDocuments) }

func badDocuments(h *house) {
	t := h.TB
	me := h.owner.secret
	numbers := []string{"0", "-1", "1.5", "1e2", "9223372036854775807", "9223372036854775808", "1e400", `"90"`, "true", "[]", "{}"}
	bad := map[string][]string{
		"max_lifetime_days": append(numbers, "3651"), "default_lifetime_days": numbers, "disable_idle_after_days": numbers,
		"max_grace_period_seconds": {"-1", "604801", "0.5", `"1"`, "false"},
		"api_keys_enabled":         {"1", `"true"`, "[]"}, "allow_never_expiring": {"0"}, "require_allowed_cidrs": {`""`}, "service_accounts_manage_keys": {"{}"},
		"allowed_scopes": {`"*:read"`, "[1]", `["x"]`, `["api-keys:read"]`, `[""]`, `["a:b:c"]`, "{}", `[null]`, "[" + strings.Repeat(`"a:b",`, 100) + `"a:b"]`},
		"max_lifetime":   {"1"}, "Max_lifetime_days": {"1"}, "exchanges_per_minute": {"1"},
	}
	limits := map[string][]string{
		"exchanges_per_minute": append(numbers, "600001"), "exchanges_per_day": append(numbers, "1000000000001"), "exchanges_per_month": numbers,
		"max_keys": append(numbers, "1000000001"), "max_service_accounts": numbers, "burst": {"10", "0", "1.5"},
		"mode": {`"hard"`, `""`, "1", "true"}, "max_lifetime_days": {"1"},
	}
	for path, members := range map[string]map[string][]string{"/policy": bad, h.in("/policy"): bad, h.in("/quota"): limits} {
		for member, values := range members {
			for _, value := range values {
				body := fmt.Sprintf(`{%q: %s}`, member, value)
				for method, path := range map[string]string{put: path, post: path + "/preview"} {
					got := h.call(me, method, path, body)
					if got.status != 422 || got.code() != "validation_failed" || !slices.Equal(pointers(got), []string{"/" + member}) {
						t.Errorf("%s %s %.60s: %d %s", method, path, body, got.status, got.body)
					}
				}
			}
		}
		for body, status := range map[string]int{
			"": 400, "null": 400, "[]": 400, `{"max_keys":1,"max_keys":2}`: 400, "{\"mode\":\"\xff\"}": 400, "{}{}": 400, `{"version":1,"version":1}`: 400,
		} {
			if got := h.call(me, put, path, body); got.status != status {
				t.Errorf("%s %q: %d %s", path, body, got.status, got.body)
			}
		}
		if got := h.want(200, me, get, path, nil); got.object["version"] != 0.0 {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	if got := h.want(422, me, put, h.in("/policy"), `{"max_lifetime_days": 30, "default_lifetime_days": 31}`); pointers(got)[0] != "/default_lifetime_days" {
		t.Errorf("%s", got.body)
	}
	h.want(200, me, put, h.in("/policy"), `{"max_lifetime_days": null, "allowed_scopes": null}`)
	h.want(405, me, patch, h.in("/policy"), `{}`)
	h.want(405, me, remove, h.in("/quota"), nil)
}

// A workspace whose name is empty, since a variable was not set, is nothing, and
// above all not the organization.
func TestNoWorkspaceIsNotTheOrganization(t *testing.T) {
	on(t, func(h *house) {
		for _, path := range []string{"/workspaces//policy", "/workspaces//quota", "/workspaces/%20/policy"} {
			request := httptest.NewRequest(put, base+path, strings.NewReader("{}"))
			request.Header.Set("Authorization", "Bearer "+h.owner.secret)
			request.Header.Set("Content-Type", "application/json")
			recorder := httptest.NewRecorder()
			h.echo.ServeHTTP(recorder, request)
			if recorder.Code != 404 {
				h.Errorf("%s: %d %s", path, recorder.Code, recorder.Body)
			}
		}
		if got := h.want(200, h.owner.secret, get, "/policy", nil); got.object["version"] != 0.0 {
			h.Errorf("the policy is %s", got.body)
		}
	})
}

// While a replica does not confirm a document, the answer is 202 with what is
// committed.
func TestDocumentsThatAreNotConfirmed(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		h.exec(`INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at) VALUES ('silent', 'elsewhere', 1, 0, 0)`)
		impatient := func(r *http.Request) {
			ctx, cancel := context.WithTimeout(h.Context(), 500*time.Millisecond)
			h.Cleanup(cancel)
			*r = *r.WithContext(ctx)
		}
		for path, body := range map[string]object{"/policy": {"default_lifetime_days": 30}, h.in("/policy"): {"default_lifetime_days": 20}, h.in("/quota"): {"max_keys": 30}} {
			pending := h.want(202, me, put, path, body, impatient)
			if got := h.want(200, me, get, path, nil); string(got.body) != string(pending.body) || pending.header.Get("ETag") != `"1"` {
				h.Errorf("%s: %s, then %s", path, pending.body, got.body)
			}
		}
	})
}
