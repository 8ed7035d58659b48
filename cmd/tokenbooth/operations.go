package main

import (
	"encoding/json"
	"net/http"
	"net/http/pprof" //nolint:gosec // it is served where we mount it, and its own routes are on a mux that nobody serves

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// operations is the listener for operators: it belongs on a private network.
func (s *server) operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeStatus(w, http.StatusOK, map[string]any{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	if s.config.Operations.Profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// readyz says whether this replica can exchange keys now, and what is missing if
// not. It asks nothing of the database: the lease proves that it answers. Without
// it a replica is ready for as long as it may go on by what it has in memory.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	checks := map[string]string{
		"database":    word(s.follower.May(s.follower.Stand(r.Context())), "the lease on the key cache has run out"),
		"signing_key": s.signingKeys(),
		"server":      word(!s.draining.Load(), "shutting down"),
	}
	status, text := http.StatusOK, "ready"
	for _, check := range checks {
		if check != "ok" {
			status, text = http.StatusServiceUnavailable, "not ready"
		}
	}
	checks["redis"] = s.redis.text() // reported, but exchanges do not depend on it
	if checks["database"] == "ok" && !s.follower.Held() {
		checks["database"] = "away: keys are exchanged by what is in memory"
	}
	writeStatus(w, status, map[string]any{"status": text, "checks": checks})
}

// word is "ok", or what is wrong instead.
func word(ok bool, wrong string) string {
	if ok {
		return "ok"
	}
	return wrong
}

func writeStatus(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the client is gone if this fails
}
