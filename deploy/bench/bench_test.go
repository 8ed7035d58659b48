package main

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serving is a target that answers as handler does, in this very process.
func serving(t *testing.T, handler http.HandlerFunc) target {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return target{address: strings.TrimPrefix(s.URL, "http://"), requests: [][]byte{loginRequest("tbk_1", "tbs_1"), loginRequest("tbk_2", "tbs_2")}}
}

func TestLoadSendsWholeRequests(t *testing.T) {
	var seen [2]atomic.Int64
	at := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") != "client_credentials" || r.FormValue("client_id")[4:] != r.FormValue("client_secret")[4:] {
			t.Errorf("form %v", r.Form)
		}
		seen[r.FormValue("client_id")[4]-'1'].Add(1)
		w.Header().Set("Content-Length", "5000") // more than net/http counts by itself
		_, _ = io.WriteString(w, strings.Repeat("x", 5000))
	})
	r, err := at.send(ourselves(), 4, 200)
	if err != nil {
		t.Fatal(err)
	}
	first, second := seen[0].Load(), seen[1].Load()
	if r.requests != 200 || first+second != 200 || first == 0 || second == 0 {
		t.Errorf("%d requests, of which %d and %d came in; want 200 of both keys", r.requests, first, second)
	}
	if len(r.times) != 200 || r.percentile(0.5) <= 0 || r.percentile(1) < r.percentile(0) || r.cost() <= 0 {
		t.Errorf("times %d, p50 %s, cost %s", len(r.times), r.percentile(0.5), r.cost())
	}
}

// Requests come at random moments, as many as the rate says.
func TestPace(t *testing.T) {
	var seen atomic.Int64
	at := serving(t, func(w http.ResponseWriter, _ *http.Request) { seen.Add(1); _, _ = io.WriteString(w, "x") })
	r, err := at.pace(ourselves(), 1000, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if n := seen.Load(); int64(r.requests) != n || n < 150 || n > 450 { // ten times their deviation
		t.Errorf("%d requests, %d came in; want about 300", r.requests, n)
	}
}

// A load that is refused measures nothing.
func TestLoadFailsWithTheServer(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"refused":        {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "quota", http.StatusTooManyRequests) }, "429 Too Many Requests"},
		"without length": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x"); w.(http.Flusher).Flush() }, "no Content-Length"},
		"broken off":     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "after 0 bytes"},
		"too long":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }, "no Content-Length"},
	} {
		at := serving(t, c.handler)
		if _, err := at.send(ourselves(), 2, 10); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.says)
		}
	}
}

func TestWholeLength(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   int
		says   string
	}{
		{"HTTP/1.1 200 OK\r\nContent-Le", 0, ""},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 43, ""},
		{"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 10\r\nC: d\r\n\r\n", 61, ""},
		{"HTTP/1.1 200 OK\r\nX-Content-Length: 5\r\n\r\nab", 0, "no Content-Length"},
		{"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\n", 0, "401"},
	} {
		got, err := wholeLength([]byte(c.answer))
		if got != c.want || (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%q: %d, %v; want %d, %q", c.answer, got, err, c.want, c.says)
		}
	}
}

// Each floor answers what it was told to, header and body, and signs.
func TestFloors(t *testing.T) {
	answer := floorAnswer{Header: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}, Body: `{"access_token":"a"}`, Claims: "a.b"}
	for _, kind := range []string{"nethttp", "echo"} {
		handler, err := floorHandler(kind, answer)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/login", strings.NewReader("grant_type=client_credentials")))
		if w.Code != http.StatusOK || w.Body.String() != answer.Body || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s answers %d %v %q", kind, w.Code, w.Header(), w.Body)
		}
	}
	handler, err := floorHandler("nethttp", answer)
	if err != nil {
		t.Fatal(err)
	}
	for times, want := range map[string]int{"3": http.StatusOK, "x": http.StatusInternalServerError} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/sign/"+times, http.NoBody))
		if w.Code != want {
			t.Errorf("sign %s: %d, want %d", times, w.Code, want)
		}
	}
	if _, err := floorHandler("chi", answer); err == nil {
		t.Error("an unknown floor is served")
	}
}

func TestGuard(t *testing.T) {
	good := figures{ExchangeCPURatio: 1.3, ExchangeCPURatioRedis: 1.5, VerifyRatio: 1.25, VerifyCachedSpeedup: 20}
	if err := good.guard(); err != nil {
		t.Error(err)
	}
	bad := figures{ExchangeCPURatio: 3, ExchangeCPURatioRedis: math.NaN(), VerifyRatio: 2, VerifyCachedSpeedup: 5, Embedded: exchangeFigures{Allocs: 1000}, Redis: exchangeFigures{Allocs: 1000}}
	err := bad.guard()
	for _, key := range []string{"exchange_cpu_ratio is", "exchange_cpu_ratio_redis", "verify_ratio", "verify_cached_speedup", "embedded.allocs", "redis.allocs"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Every key of the JSON file is explained where people look for it.
func TestFiguresAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	var look func(of reflect.Type)
	look = func(of reflect.Type) {
		for i := range of.NumField() {
			field := of.Field(i)
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !strings.Contains(string(page), "`"+key+"`") {
				t.Errorf("%s is not in deploy/docs/performance.md", key)
			}
			switch kind := field.Type; kind.Kind() {
			case reflect.Struct:
				look(kind)
			case reflect.Map:
				look(kind.Elem())
			}
		}
	}
	look(reflect.TypeFor[figures]())
}

func TestMedian(t *testing.T) {
	if m := median([]int{9, 1, 5}, func(n int) float64 { return float64(n) }); m != 5 {
		t.Errorf("%g", m)
	}
}

// ourselves is this very process, whose processor time stands for a server's.
func ourselves() *process { return &process{pid: os.Getpid()} }

func TestPrint(t *testing.T) {
	r := report{verified: []verified{{raw: 1000, ecdsa: 1000, uncached: 1200, cached: 10}}}
	one := round{nethttp: result{requests: 100, took: time.Second, cpu: time.Millisecond}, echo: result{requests: 100, took: time.Second, cpu: time.Millisecond}, signature: 30 * time.Microsecond, exchange: result{requests: 50, took: time.Second, cpu: 2600 * time.Microsecond}}
	r.alone.rounds, r.together.rounds = []round{one}, []round{one}
	var out strings.Builder
	r.print(&out)
	for _, want := range []string{"exchange CPU / (echo floor + signature) = 1.30; requests/s = 0.50 of the net/http floor", "1.20 × that", "100 × faster"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
