package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Traefik and Envoy are not in Debian. Here the test does with a request what their
// documentation says that they do, by what the shipped files tell them: so the files
// and our answers are held to the contract, and the programs are not tried.

// acting is a gateway in this process.
type acting struct {
	refuse func(*http.Request) int                         // status of what it refuses by itself; 0: nothing
	ask    func(*http.Request) *http.Request               // the question about a request
	let    func(request *http.Request, answer http.Header) // what the answer makes of it
	tell   []string                                        // headers of a refusal that the client gets; nil: all
	away   int                                             // what the client gets when nobody answers
}

// start serves until the test ends. httputil.ReverseProxy takes out of a request what
// its Connection names, as Traefik does, which is made with it.
func (a acting) start(t *testing.T, service string) string {
	t.Helper()
	onwards := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host = "http", service
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := a.refuse(r); status != 0 {
			w.WriteHeader(status)
			return
		}
		answer, err := clientAt("127.0.0.1").Do(a.ask(r))
		if err != nil {
			w.WriteHeader(a.away)
			return
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode == http.StatusOK {
			a.let(r, answer.Header)
			onwards.ServeHTTP(w, r)
			return
		}
		for name, values := range answer.Header {
			if a.tell == nil || slices.Contains(a.tell, strings.ToLower(name)) {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body) // the client is gone if this fails
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// readShipped reads the part of a YAML file that matters here.
func readShipped(t *testing.T, name string, into any) {
	t.Helper()
	file, err := os.Open(gatewayFiles + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := yaml.NewDecoder(file).Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// traefikFile is what matters of the shipped file.
type traefikFile struct {
	HTTP struct {
		Routers struct {
			API struct {
				Rule        string
				Middlewares []string
			}
		}
		Middlewares struct {
			Tokenbooth struct {
				ForwardAuth struct {
					Address             string
					TrustForwardHeader  *bool    `yaml:"trustForwardHeader"`
					AuthResponseHeaders []string `yaml:"authResponseHeaders"`
				} `yaml:"forwardAuth"`
			}
			WithoutKey struct {
				Headers struct {
					CustomRequestHeaders map[string]string `yaml:"customRequestHeaders"`
				}
			} `yaml:"without-key"`
		}
	}
}

var ruleOnHops = regexp.MustCompile("&& !HeaderRegexp\\(`Connection`, `([^`]+)`\\) && !HeaderRegexp\\(`Upgrade`, `([^`]+)`\\)$")

// startTraefik acts as Traefik: to the address goes a GET with all headers of the
// client and its own X-Forwarded ones; headers that are listed are those of the answer;
// an empty custom header removes one.
func startTraefik(t *testing.T, booth, service string) string {
	t.Helper()
	var file traefikFile
	readShipped(t, "traefik.yaml", &file)
	auth, custom := file.HTTP.Middlewares.Tokenbooth.ForwardAuth, file.HTTP.Middlewares.WithoutKey.Headers.CustomRequestHeaders
	if !slices.Equal(file.HTTP.Routers.API.Middlewares, []string{"tokenbooth", "without-key"}) || auth.TrustForwardHeader == nil || *auth.TrustForwardHeader {
		t.Fatalf("the shipped file says %+v", file)
	}
	rule := ruleOnHops.FindStringSubmatch(file.HTTP.Routers.API.Rule)
	if rule == nil {
		t.Fatalf("the rule is %s", file.HTTP.Routers.API.Rule)
	}
	hops, protocols := regexp.MustCompile(rule[1]), regexp.MustCompile(rule[2])
	return acting{
		away: http.StatusInternalServerError,
		refuse: func(r *http.Request) int {
			if slices.ContainsFunc(r.Header.Values("Connection"), hops.MatchString) || slices.ContainsFunc(r.Header.Values("Upgrade"), protocols.MatchString) {
				return http.StatusNotFound
			}
			return 0
		},
		ask: func(r *http.Request) *http.Request {
			question, err := http.NewRequest(http.MethodGet, strings.Replace(auth.Address, "tokenbooth:8080", booth, 1), http.NoBody)
			if err != nil {
				panic(err)
			}
			question.Header = r.Header.Clone()
			question.Header.Del("Connection")
			host, _, _ := strings.Cut(r.RemoteAddr, ":")
			for name, value := range map[string]string{"Method": r.Method, "Proto": "https", "Host": r.Host, "Uri": r.RequestURI, "For": host} {
				question.Header.Set("X-Forwarded-"+name, value)
			}
			return question
		},
		let: func(r *http.Request, answer http.Header) {
			for _, name := range auth.AuthResponseHeaders {
				r.Header.Del(name)
				if values := answer.Values(name); len(values) > 0 {
					r.Header[http.CanonicalHeaderKey(name)] = values
				}
			}
			for name, value := range custom {
				if value == "" {
					r.Header.Del(name)
				}
			}
		},
	}.start(t, service)
}

// names are those of a list of matchers.
type names struct {
	Patterns []struct {
		Exact string
		Regex struct{ Regex string } `yaml:"safe_regex"`
	}
}

func (n names) list() (all []string) {
	for _, pattern := range n.Patterns {
		if pattern.Exact != "" {
			all = append(all, pattern.Exact)
		}
	}
	return all
}

// among returns the names of a header that an expression matches, whole and in lower
// case.
func (n names) among(header http.Header) (found []string) {
	for _, pattern := range n.Patterns {
		whole := regexp.MustCompile("^(?:" + pattern.Regex.Regex + ")$")
		for name := range header {
			if pattern.Regex.Regex != "" && whole.MatchString(strings.ToLower(name)) {
				found = append(found, name)
			}
		}
	}
	return found
}

type envoyAuthz struct {
	FailureModeAllow *bool `yaml:"failure_mode_allow"`
	StatusOnError    struct{ Code string }
	Service          struct {
		PathPrefix string `yaml:"path_prefix"`
		Request    struct {
			Add []struct{ Key, Value string } `yaml:"headers_to_add"`
		} `yaml:"authorization_request"`
		Response struct {
			Upstream names `yaml:"allowed_upstream_headers"`
			Client   names `yaml:"allowed_client_headers"`
		} `yaml:"authorization_response"`
	} `yaml:"http_service"`
	Allowed names `yaml:"allowed_headers"`
}

type envoyManager struct {
	UseRemoteAddress bool `yaml:"use_remote_address"`
	Common           struct {
		Underscores string `yaml:"headers_with_underscores_action"`
	} `yaml:"common_http_protocol_options"`
	Early []struct {
		Config struct {
			Mutations []struct{ Remove string }
		} `yaml:"typed_config"`
	} `yaml:"early_header_mutation_extensions"`
	Filters []struct {
		Name   string
		Config envoyAuthz `yaml:"typed_config"`
	} `yaml:"http_filters"`
	Routes struct {
		Hosts []struct {
			Remove []string `yaml:"request_headers_to_remove"`
		} `yaml:"virtual_hosts"`
	} `yaml:"route_config"`
}

type envoyFile struct {
	Static struct {
		Listeners []struct {
			Chains []struct {
				Filters []struct {
					Config envoyManager `yaml:"typed_config"`
				}
			} `yaml:"filter_chains"`
		}
	} `yaml:"static_resources"`
}

// startEnvoy acts as Envoy: to the service goes the method of the request, its path
// and query behind the prefix, and the headers that are allowed or added, several of
// one name joined; headers that are listed replace those of the request; what the
// answer and the route name is removed. What Connection names goes before all that.
func startEnvoy(t *testing.T, booth, service string) string {
	t.Helper()
	var file envoyFile
	readShipped(t, "envoy.yaml", &file)
	manager := file.Static.Listeners[0].Chains[0].Filters[0].Config
	authz := manager.Filters[0].Config
	if manager.Filters[0].Name != "envoy.filters.http.ext_authz" || authz.FailureModeAllow == nil || *authz.FailureModeAllow ||
		manager.Common.Underscores != "REJECT_REQUEST" || !manager.UseRemoteAddress {
		t.Fatalf("the shipped file says %+v", manager)
	}
	tell := append(authz.Service.Response.Client.list(), "www-authenticate", "location", "content-length")
	return acting{
		away: http.StatusServiceUnavailable,
		tell: tell,
		refuse: func(r *http.Request) int {
			for name := range r.Header {
				if strings.Contains(name, "_") {
					return http.StatusBadRequest
				}
			}
			for name := range strings.SplitSeq(strings.Join(r.Header.Values("Connection"), ","), ",") {
				r.Header.Del(strings.TrimSpace(name))
			}
			r.Header.Del("Connection")
			for _, m := range manager.Early[0].Config.Mutations {
				r.Header.Del(m.Remove)
			}
			host, _, _ := strings.Cut(r.RemoteAddr, ":")
			r.Header.Set("X-Forwarded-For", strings.TrimPrefix(strings.Join(append(r.Header.Values("X-Forwarded-For"), host), ","), ","))
			return 0
		},
		ask: func(r *http.Request) *http.Request {
			question, err := http.NewRequest(r.Method, "http://"+booth+authz.Service.PathPrefix+r.RequestURI, http.NoBody)
			if err != nil {
				panic(err)
			}
			question.Header.Set("Content-Length", "0")
			for _, name := range append(authz.Allowed.list(), authz.Allowed.among(r.Header)...) {
				if values := r.Header.Values(name); len(values) > 0 {
					question.Header.Set(name, strings.Join(values, ","))
				}
			}
			for _, add := range authz.Service.Request.Add {
				question.Header.Set(add.Key, add.Value)
			}
			return question
		},
		let: func(r *http.Request, answer http.Header) {
			for _, name := range authz.Service.Response.Upstream.list() {
				if value := answer.Get(name); value != "" {
					r.Header.Set(name, value)
				}
			}
			for _, name := range append(manager.Routes.Hosts[0].Remove, strings.Split(answer.Get("X-Envoy-Auth-Headers-To-Remove"), ",")...) {
				r.Header.Del(name)
			}
		},
	}.start(t, service)
}
