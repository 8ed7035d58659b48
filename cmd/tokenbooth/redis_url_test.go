package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
)

func TestRedisURL(t *testing.T) {
	secure := func(name string) *tls.Config { return &tls.Config{ServerName: name} }
	for text, want := range map[string]redis.UniversalOptions{
		"redis://cache":                                           {Addrs: []string{"cache:6379"}},
		"redis://cache:6380/2":                                    {Addrs: []string{"cache:6380"}, DB: 2},
		"redis://[::1]:6380":                                      {Addrs: []string{"[::1]:6380"}},
		"redis://:hunter2@cache/":                                 {Addrs: []string{"cache:6379"}, Password: "hunter2"},
		"rediss://tb:a%2Fb%40@cache:6380/0?pool_size=7":           {Addrs: []string{"cache:6380"}, Username: "tb", Password: "a/b@", PoolSize: 7, TLSConfig: secure("cache")},
		"unix:///run/redis.sock":                                  {Addrs: []string{"/run/redis.sock"}},
		"unix://tb:hunter2@/run/redis.sock?db=3":                  {Addrs: []string{"/run/redis.sock"}, Username: "tb", Password: "hunter2", DB: 3},
		"redis://s1:26379/1?master_name=m&addr=s2:26379":          {Addrs: []string{"s1:26379", "s2:26379"}, MasterName: "m", DB: 1},
		"redis://tb:hunter2@s1?master_name=m&pool_size=7":         {Addrs: []string{"s1:6379"}, MasterName: "m", Username: "tb", Password: "hunter2", PoolSize: 7},
		"rediss://tb:a%3Fb@s1?master_name=m&sentinel_password=c":  {Addrs: []string{"s1:6379"}, MasterName: "m", Username: "tb", Password: "a?b", SentinelPassword: "c", TLSConfig: secure("s1")},
		"redis://s1?master_name=m&sentinel_username=u":            {Addrs: []string{"s1:6379"}, MasterName: "m", SentinelUsername: "u"},
		"redis://n1?cluster=true":                                 {Addrs: []string{"n1:6379"}, IsClusterMode: true},
		"redis://tb:a%23b@n1:7000/0?addr=n2:7000&addr=[::1]:7000": {Addrs: []string{"n1:7000", "n2:7000", "[::1]:7000"}, IsClusterMode: true, Username: "tb", Password: "a#b"},
		"rediss://n1?cluster=true&addr=n2:1&pool_size=7":          {Addrs: []string{"n1:6379", "n2:1"}, IsClusterMode: true, PoolSize: 7, TLSConfig: secure("n1")},
	} {
		got, err := parseRedis(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		sameName := cmp.Comparer(func(a, b *tls.Config) bool {
			return (a == nil) == (b == nil) && (a == nil || a.ServerName == b.ServerName)
		})
		if diff := cmp.Diff(&want, got, sameName, cmpopts.IgnoreUnexported(redis.UniversalOptions{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// Every mistake is found before a start, and no sentence quotes any of it.
func TestRedisURLRefusals(t *testing.T) {
	const canary = "c4n4ry"
	for text, want := range map[string]string{
		canary:                                  "has an unknown scheme",
		"1:" + canary:                           "is not a URL",
		"http://" + canary:                      "has an unknown scheme",
		"redis://u:" + canary + "/x@h":          "is not a URL",
		"redis://u:12/" + canary + "@h":         "has a path that is no number",
		"redis://u:12?" + canary + "@h":         "has a parameter other than addr, cluster, db,",
		"redis://u:12?;" + canary:               "has a query that is not understood",
		"redis://u:12#" + canary + "@h":         "has a fragment",
		"redis://":                              "names no host",
		"redis://u:" + canary + "@:6379":        "names no host",
		"redis://h/" + canary:                   "has a path that is no number",
		"redis://h/-1":                          "has a path that is no number",
		"redis://h/1/2":                         "has a path that is no number",
		"redis://h?db=1":                        "the database is the path",
		"redis://h?db=" + canary:                "has a db that is no number",
		"redis://h?read_timeout=" + canary:      "has a parameter other than",
		"rediss://h?skip_verify=true":           "has a parameter other than",
		"redis://h?username=" + canary:          "has a parameter other than",
		"redis://h?pool_size=" + canary:         "has a pool_size",
		"redis://h?pool_size=0":                 "has a pool_size",
		"redis://h?pool_size=1&pool_size=2":     "has the parameter pool_size twice",
		"redis://h?master_name=":                "has nothing in its parameter master_name",
		"redis://h?addr=":                       "has nothing in its parameter addr",
		"redis://h?addr=" + canary:              "has an addr that is not HOST:PORT",
		"redis://h?master_name=m&addr=x":        "has an addr that is not HOST:PORT",
		"redis://h?cluster=" + canary:           "has a parameter cluster that is not true",
		"redis://h?cluster=false&addr=h2:1":     "has a parameter cluster that is not true",
		"redis://h?cluster=true&master_name=m":  "has master_name, of Sentinel, and cluster",
		"redis://h?sentinel_password=" + canary: "has parameters of Sentinel without master_name",
		"redis://h/1?cluster=true":              "has a database, and a cluster has none but 0",
		"redis://h/1?addr=h2:1":                 "has a database, and a cluster has none but 0",
		"unix://" + canary:                      "does not name the socket by its whole path",
		"unix:///":                              "does not name the socket by its whole path",
		"unix:///s?cluster=true":                "has parameters of several servers",
		"unix:///s?master_name=m":               "has parameters of several servers",
		"unix:///s?addr=h:1":                    "has parameters of several servers",
	} {
		_, err := parseRedis(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error quotes it: %v", text, err)
		}
	}
}

func TestRedisCAFile(t *testing.T) {
	dir := t.TempDir()
	good, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	newCA(t).write(t, good)
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ url, file, want string }{
		{"rediss://h", good, ""},
		{"rediss://h?cluster=true", good, ""},
		{"rediss://h?master_name=m", good, ""},
		{"rediss://h", "", ""},
		{"rediss://h", empty, "empty.pem holds no certificate in PEM"},
		{"rediss://h", filepath.Join(dir, "none"), "none: no such file"},
		{"redis://h", good, "is set, but redis.url does not begin with rediss://"},
		{"unix:///s", good, "is set, but redis.url does not begin with rediss://"},
		{"", good, "is set, but redis.url is not"},
	} {
		_, _, err := load(t, "redis: {url: '"+test.url+"', ca_file: '"+test.file+"'}", nil)
		if test.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		if got := problems(t, err); len(got) != 1 || !strings.Contains(got[0], "redis.ca_file") || !strings.Contains(got[0], test.want) {
			t.Errorf("%+v: problems %q", test, got)
		}
	}
	if _, _, err := load(t, "redis: {url: 'redis://', ca_file: x}", nil); len(problems(t, err)) != 1 {
		t.Errorf("a wrong URL is a problem of its file too: %v", err)
	}
}

// FuzzRedisURL shows that what is accepted is of one form only, with bounded waits,
// and that no sentence about the rest has more than our words.
func FuzzRedisURL(f *testing.F) {
	for _, seed := range []string{"redis://u:p@h:1/0", "rediss://h?master_name=m&addr=a:1", "redis://h?cluster=true", "unix:///s?db=1", "redis://%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseRedis(text)
		if err != nil {
			return
		}
		if len(o.Addrs) == 0 || o.MasterName != "" && o.IsClusterMode || o.IsClusterMode && o.DB != 0 {
			t.Errorf("%q became %+v", text, o)
		}
		config := new(Config)
		config.Redis.URL = text
		client, err := newRedisClient(config)
		if err != nil {
			t.Fatalf("%q is understood and makes no client: %v", text, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
}
