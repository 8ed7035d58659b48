package main

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// proxy forwards TCP connections to a server, until it is cut or hangs.
type proxy struct {
	listener net.Listener
	gate     sync.RWMutex                // held for writing while the proxy hangs
	ask      atomic.Pointer[func() bool] // before a message to the server is forwarded; false: it is not

	mu     sync.Mutex
	target string
	down   bool
	conns  map[net.Conn]bool
}

// proxied puts a proxy in front of the server that a URL names, and returns the
// URL of the proxy.
func proxied(t *testing.T, address string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: u.Host, conns: map[net.Conn]bool{}}
	go p.serve()
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) serve() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		upstream, err := net.Dial("tcp", target)
		if err != nil || !p.keep(conn, upstream) {
			_ = conn.Close()
			continue
		}
		go p.forward(conn, upstream, true)
		go p.forward(upstream, conn, false)
	}
}

// keep remembers connections, so that they can be cut; it closes them at once
// when the proxy is down.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.down {
			_ = conn.Close()
			continue
		}
		p.conns[conn] = true
	}
	return !p.down
}

func (p *proxy) forward(from, to net.Conn, request bool) {
	_, _ = io.Copy(gated{p, to, request}, from) // one end was closed
	_, _ = from.Close(), to.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
}

// gated writes only while the proxy does not hang.
type gated struct {
	p       *proxy
	to      net.Conn
	request bool
}

func (g gated) Write(b []byte) (int, error) {
	if ask := g.p.ask.Load(); g.request && ask != nil && !(*ask)() {
		return 0, net.ErrClosed
	}
	g.p.gate.RLock()
	defer g.p.gate.RUnlock()
	return g.to.Write(b)
}

// cut breaks every connection and refuses new ones until mend.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// breakAll breaks every connection, in the middle of whatever it does.
func (p *proxy) breakAll() {
	p.cut()
	p.mend()
}

// retarget leads new connections to another server.
func (p *proxy) retarget(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = address
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Without its database a server goes on for the rest of its lease, then it says
// that it cannot know, and nothing else; with it, it is back by itself. Redis
// makes no difference at any time.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]struct{ begin, end func(*proxy) }{
		"connections refused": {(*proxy).cut, (*proxy).mend},
		"no answers":          {func(p *proxy) { p.gate.Lock() }, func(p *proxy) { p.gate.Unlock() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database, databaseURL := proxied(t, schematest.PostgresURL(t))
			redis, redisURL := proxied(t, "redis://"+schematest.PrivateRedis(t).Address())
			env := onPostgres(databaseURL, "TOKENBOOTH_REDIS_URL="+redisURL)
			made := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...)
			r := serveReady(t, env)
			wantToken(t, r.url, made.key())

			redis.cut()
			wantToken(t, r.url, made.key())
			if r.ready() != http.StatusOK {
				t.Error("not ready without Redis")
			}

			away.begin(database)
			unavailable := wantOnlyUntilUnavailable(t, r, made.key())
			if after, err := strconv.Atoi(unavailable.header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
				t.Errorf("503 with Retry-After %q", unavailable.header.Get("Retry-After"))
			}
			if unavailable.text("error") != "temporarily_unavailable" {
				t.Errorf("503 says %v", unavailable.body)
			}
			if a := login(t, r.url, made.ownerKey()); a.status != http.StatusServiceUnavailable {
				t.Errorf("a key that was never used: %d, want 503", a.status)
			}
			// A key that was read a moment ago may be newer than what else is in memory, and
			// then it needs the database before the lease is over.
			eventually(t, "the end of readiness", func() bool { return r.ready() == http.StatusServiceUnavailable })
			for path, want := range map[string]int{r.url + "/.well-known/jwks.json": http.StatusOK, r.ops + "/livez": http.StatusOK} {
				if a := get(t, path, ""); a.status != want {
					t.Errorf("%s answers %d, want %d", path, a.status, want)
				}
			}

			away.end(database)
			eventually(t, "tokens again", func() bool { return login(t, r.url, made.key()).status == http.StatusOK })
			eventually(t, "readiness again", func() bool { return r.ready() == http.StatusOK })
			wantToken(t, r.url, made.ownerKey())
			r.stop()
		})
	}
}

// wantOnlyUntilUnavailable asks until the answer is 503; before, it must be a token.
func wantOnlyUntilUnavailable(t *testing.T, r *replica, c credential) answer {
	t.Helper()
	var last answer
	eventually(t, "503", func() bool {
		last = login(t, r.url, c)
		if last.status != http.StatusOK && last.status != http.StatusServiceUnavailable {
			t.Fatalf("without a database: %d %v", last.status, last.body)
		}
		return last.status == http.StatusServiceUnavailable
	})
	return last
}
