package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
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
	return addressTeller(config)(peer, header)
}

// addressTeller is a server that tells the address that a handler sees.
func addressTeller(config *Config) func(peer string, header http.Header) string {
	e := newEcho(config, slog.New(slog.DiscardHandler), newMetrics(&server{backend: &backend{}}))
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, c.RealIP()) })
	return func(peer string, header http.Header) string { return tell(e, peer, header) }
}

func tell(e *echo.Echo, peer string, header http.Header) string {
	request := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	request.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(peer), 40000).String()
	if header != nil {
		request.Header = header
	}
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, request)
	return recorder.Body.String()
}

// What a client may have put before a proxy, in every combination of the three
// headers that name clients, with none, one and two trusted proxies.
func TestClientAddressUnderEverySpoof(t *testing.T) {
	t.Parallel()
	const client, liar, near, far, port = "203.0.113.9", "198.51.100.1", "10.0.0.1", "192.0.2.7", "198.51.100.1:443"
	forwardedFor := spellings(sequences([]string{client, liar, near, far, port, ""}, 3))
	others := map[string][][]string{
		"Forwarded": {nil, {"for=" + liar}, {"for=" + near + ", for=" + liar, "for=\"[2001:db8::1]\";proto=https"}},
		"X-Real-Ip": {nil, {liar}, {near, liar}},
	}
	tried := 0
	for _, trusted := range [][]string{nil, {near}, {near, far}} {
		config := new(Config)
		for _, address := range trusted {
			config.HTTP.TrustedProxies = append(config.HTTP.TrustedProxies, netip.MustParsePrefix(address+"/32"))
		}
		seen := addressTeller(config)
		for _, peer := range []string{client, near, far, "127.0.0.1"} {
			for _, lines := range forwardedFor {
				want := addressByRule(trusted, peer, lines)
				for _, header := range withOthers(lines, others) {
					tried++
					if got := seen(peer, header); got != want {
						t.Fatalf("proxies %v, peer %s, headers %v: the client is %s, want %s", trusted, peer, header, got, want)
					}
				}
			}
		}
	}
	t.Logf("%d requests", tried)
}

// addressByRule is the rightmost hop that is no trusted proxy, the peer being the
// last hop. Past one that is no address nobody knows more than the peer. If every
// hop is a proxy, the first is where it began.
func addressByRule(trusted []string, peer string, lines []string) string {
	hops := []string{peer}
	if lines != nil {
		hops = append(strings.Split(strings.Join(lines, ","), ","), peer)
	}
	for _, hop := range slices.Backward(hops) {
		if slices.Contains(trusted, hop) {
			continue
		}
		if _, err := netip.ParseAddr(hop); err != nil {
			return peer
		}
		return hop
	}
	return hops[0]
}

// sequences are all those of up to n words.
func sequences(words []string, n int) [][]string {
	all := [][]string{{}}
	for last := all; n > 0; n-- {
		var longer [][]string
		for _, sequence := range last {
			for _, word := range words {
				longer = append(longer, append(slices.Clone(sequence), word))
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// spellings are the ways to write each sequence: in one header or in several.
func spellings(all [][]string) [][]string {
	var written [][]string
	for _, words := range all {
		if len(words) == 0 {
			written = append(written, nil)
			continue
		}
		for breaks := range 1 << (len(words) - 1) { // a bit is a break behind a word
			lines := []string{words[0]}
			for i, word := range words[1:] {
				if breaks>>i&1 == 1 {
					lines = append(lines, word)
				} else {
					lines[len(lines)-1] += "," + word
				}
			}
			written = append(written, lines)
		}
	}
	return written
}

// withOthers is X-Forwarded-For, if it has lines, beside every choice of the others.
func withOthers(lines []string, others map[string][][]string) []http.Header {
	headers := []http.Header{{}}
	if lines != nil {
		headers[0]["X-Forwarded-For"] = lines
	}
	for name, choices := range others {
		var more []http.Header
		for _, header := range headers {
			for _, values := range choices {
				header := header.Clone()
				if values != nil {
					header[name] = values
				}
				more = append(more, header)
			}
		}
		headers = more
	}
	return headers
}
