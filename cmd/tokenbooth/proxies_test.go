package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/labstack/echo/v4"
)

func TestClientAddress(t *testing.T) {
	const (
		client = "203.0.113.9"
		liar   = "198.51.100.1"
		near   = "10.0.0.1" // the proxy that connects to us
		far    = "192.0.2.7"
	)
	none, one, two := []string{}, []string{near + "/32"}, []string{"10.0.0.0/8", far + "/32"}
	for _, test := range []struct {
		name    string
		trusted []string
		peer    string
		header  http.Header
		want    string
	}{
		{"no proxy: the peer", none, client, nil, client},
		{"no proxy: X-Forwarded-For is a claim", none, client, forwarded(liar), client},
		{"no proxy: also of a private address", none, near, forwarded(liar), near},
		{"no proxy: also of a loopback address", none, "127.0.0.1", forwarded(liar), "127.0.0.1"},
		{"no proxy: X-Real-IP", none, client, http.Header{"X-Real-Ip": {liar}}, client},
		{"no proxy: Forwarded", none, client, http.Header{"Forwarded": {"for=" + liar}}, client},

		{"one: the client it names", one, near, forwarded(client), client},
		{"one: what the client claims is left of that", one, near, forwarded(liar + ", " + client), client},
		{"one: in a header of its own", one, near, forwarded(liar, client), client},
		{"one: X-Real-IP is still a claim", one, near, http.Header{"X-Real-Ip": {liar}}, near},
		{"one: Forwarded is still a claim", one, near, http.Header{"Forwarded": {"for=" + liar}}, near},
		{"one: without a header", one, near, nil, near},
		{"one: past the proxy", one, client, forwarded(liar), client},
		{"one: another private address is none", one, "10.0.0.2", forwarded(liar), "10.0.0.2"},
		{"one: loopback is none", one, "127.0.0.1", forwarded(liar), "127.0.0.1"},
		{"one: the client claims to be the proxy", one, near, forwarded(near + ", " + client), client},
		{"one: no address", one, near, forwarded("unknown"), near},
		{"one: an address after nonsense", one, near, forwarded("x, " + client), client},

		{"two: the client behind both", two, near, forwarded(client + ", " + far), client},
		{"two: a claim left of that", two, near, forwarded(liar + ", " + client + ", " + far), client},
		{"two: past the far one", two, near, forwarded(liar + ", " + client), client},
		{"two: past both", two, client, forwarded(liar + ", " + far), client},
		{"two: every hop is one of them", two, near, forwarded("10.0.0.3, " + far), "10.0.0.3"},

		{"IPv6", []string{"2001:db8:1::/48"}, "2001:db8:1::1", forwarded("2001:db8:2::9"), "2001:db8:2::9"},
		{"IPv6, past the proxy", []string{"2001:db8:1::/48"}, "2001:db8:2::9", forwarded(liar), "2001:db8:2::9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := new(Config)
			for _, network := range test.trusted {
				config.HTTP.TrustedProxies = append(config.HTTP.TrustedProxies, netip.MustParsePrefix(network))
			}
			if got := seenAs(config, test.peer, test.header); got != test.want {
				t.Errorf("the client is %s, want %s", got, test.want)
			}
		})
	}
}

// forwarded is X-Forwarded-For in so many headers.
func forwarded(values ...string) http.Header { return http.Header{"X-Forwarded-For": values} }

// seenAs is the address that a handler sees.
func seenAs(config *Config, peer string, header http.Header) string {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	e := newEcho(config, log, newMetrics(&server{backend: &backend{}}))
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, c.RealIP()) })
	request := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	request.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(peer), 40000).String()
	if header != nil {
		request.Header = header
	}
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, request)
	return recorder.Body.String()
}
