package console_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (s *site) quota() manage.Quota {
	s.t.Helper()
	q, err := s.manager.Quota(s.t.Context(), s.operator, s.ws.ID)
	fatal(s.t, err)
	return q
}

func (s *site) setQuota(l quota.Limits) {
	s.t.Helper()
	_, err := s.manager.SetQuota(s.t.Context(), manage.User(s.owner.ID), s.ws.ID, l)
	fatal(s.t, err)
}

func pointer(n int64) *int64 { return &n }

func TestUsage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/w/"+s.ws.Slug+"/usage"
	ada.get(path).want(t, http.StatusOK, "Nobody has set a quota yet", "0 live keys, no limit", "No exchanges in this time", "No limit per minute").without(t, "<progress", "Busiest")

	one, two := s.key(s.ws, "one", manage.NewKey{}), s.key(s.ws, "two", manage.NewKey{})
	s.exchanges(one, "issued", 40)
	s.exchanges(one, "quota_exceeded", 2)
	s.exchanges(two, "expired", 3)
	s.setQuota(quota.Limits{MaxKeys: pointer(2), MaxServiceAccounts: pointer(50), PerMinute: pointer(60), Burst: pointer(10)})
	a := ada.get(path).want(t, http.StatusOK, "2 of 2 live keys", "nothing left", "2 of 50 service accounts", `max="50" value="2"`,
		"At most 60 exchanges a minute, 10 of them at once", "ada@example.com", "40 issued", "Key expired", "audit?outcome=expired", `>one</a>`, `>two</a>`, "Change the quota")
	if strings.Index(a.body, ">one</a>") > strings.Index(a.body, ">two</a>") {
		t.Error("the busiest is not first")
	}
	ada.get(path+"?span=30d").want(t, http.StatusOK, "Exchanges per day", "40 issued")
	s.later(48 * time.Hour)
	ada = s.as(s.owner) // a session is over by then
	ada.get(path+"?span=24h").want(t, http.StatusOK, "No exchanges in this time")
	ada.get(path+"?span="+url.QueryEscape(hostile)).want(t, http.StatusOK, "40 issued").without(t, "<script>alert")
}

func TestChangeQuota(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.key(s.ws, "one", manage.NewKey{})
	s.key(s.ws, "two", manage.NewKey{})
	s.setQuota(quota.Limits{MaxKeys: pointer(50), PerDay: pointer(1000)})
	ada, path := s.as(s.owner), "/w/"+s.ws.Slug+"/usage/limits"
	shown := ada.get(path).want(t, http.StatusOK, `name="max_keys" inputmode="numeric" value="50"`, `value="1000"`)
	form := url.Values{"version": {shown.found(t, versionIn)}, "max_keys": {"1"}, "exchanges_per_minute": {" 60 "}, "mode": {"soft"}}

	ada.post(path, form).want(t, http.StatusOK, "<del>50</del> → <ins>1</ins>", "<del>1,000</del> → <ins>none</ins>", "<ins>only noted</ins>",
		"has 2 live API keys, and 1 would be allowed", "Limits are soft", `name="max_keys" value="1"`)
	if q := s.quota(); *q.Value.MaxKeys != 50 || q.Version != 1 {
		t.Fatalf("the preview changed it: %+v", q)
	}
	form.Set("seen", "yes")
	if to := ada.post(path, form).location(t); to != "/w/"+s.ws.Slug+"/usage?notice=quota-changed" {
		t.Errorf("sent to %s", to)
	}
	q := s.quota()
	if *q.Value.MaxKeys != 1 || *q.Value.PerMinute != 60 || q.Value.PerDay != nil || q.Value.Mode != quota.Soft {
		t.Errorf("the quota is %+v", q.Value)
	}

	form.Set("max_keys", "7") // of the version before
	ada.post(path, form).want(t, http.StatusConflict, "Somebody else changed it meanwhile", `value="7"`)
	if now := s.quota(); now.Version != q.Version {
		t.Errorf("version %d took the place of %d", now.Version, q.Version)
	}
	same := url.Values{"version": {"2"}, "max_keys": {"1"}, "exchanges_per_minute": {"60"}, "mode": {"soft"}}
	ada.post(path, same).want(t, http.StatusOK, "Nothing: these are the limits already").without(t, "Save limits")
}

func TestQuotaMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for field, values := range map[string][]string{
		"max_keys": {"0", "-1", "many", "1.5", "1,000", "9999999999999999999999", hostile}, "exchanges_per_minute": {"0", "99999999999"},
		"exchanges_per_month": {"1e6"}, "burst": {"5"}, "mode": {"hard"},
	} {
		for _, value := range values {
			a := s.as(s.owner).post("/w/"+s.ws.Slug+"/usage/limits", url.Values{field: {value}, "max_service_accounts": {"123"}, "seen": {"yes"}})
			a.want(t, http.StatusUnprocessableEntity, `href="#`+field+`"`, `value="123"`).without(t, "<script>alert")
			if field != "mode" {
				a.want(t, http.StatusUnprocessableEntity, `value="`+html.EscapeString(value)+`"`)
			}
		}
	}
	if q := s.quota(); q.Version != 0 {
		t.Errorf("the quota is %+v", q)
	}
}

func TestQuotaOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.key(s.ws, "secret-name", manage.NewKey{})
	s.setQuota(quota.Limits{MaxKeys: pointer(50)})
	viewer, manager := s.member("viewer@example.com", "", workspace.Viewer), s.member("manager@example.com", "", workspace.Manager)
	outsider, admin := s.user("outsider@example.com", false), s.user("admin@example.com", true)
	usage := "/w/" + s.ws.Slug + "/usage"
	more := url.Values{"version": {"1"}, "max_keys": {"60"}, "seen": {"yes"}}
	less := url.Values{"version": {"1"}, "max_keys": {"40"}, "seen": {"yes"}}

	s.as(viewer).get(usage).want(t, http.StatusOK, "1 of 50 live keys").without(t, "Change the quota")
	s.as(viewer).get(usage+"/limits").want(t, http.StatusForbidden)
	if a := s.as(viewer).post(usage+"/limits", less); a.status != http.StatusForbidden {
		t.Errorf("a viewer posts: %d", a.status)
	}
	s.as(outsider).get(usage).want(t, http.StatusNotFound)
	s.as(outsider).post(usage+"/limits", less).want(t, http.StatusNotFound)

	s.as(manager).get(usage+"/limits").want(t, http.StatusOK, "You can make limits tighter")
	s.as(manager).post(usage+"/limits", more).want(t, http.StatusForbidden, "can only narrow", `value="60"`)
	if q := s.quota(); *q.Value.MaxKeys != 50 {
		t.Fatalf("the quota is %+v", q.Value)
	}
	s.as(manager).post(usage+"/limits", less).location(t)

	more.Set("version", "2")
	s.as(admin).get(usage).want(t, http.StatusOK, "1 of 40 live keys", "Change the quota", "for members of the workspace to see").without(t, "secret-name", "Busiest")
	s.as(admin).post(usage+"/limits", more).location(t)
	if q := s.quota(); *q.Value.MaxKeys != 60 {
		t.Errorf("the quota is %+v", q.Value)
	}
}
