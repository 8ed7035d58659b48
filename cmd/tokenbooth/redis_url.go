package main

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const acceptsRedis = "redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// with TLS, unix:///PATH, " +
	"with ?master_name=NAME for Sentinel, with ?cluster=true for Cluster (either with &addr=HOST:PORT for each further server), " +
	"or nothing to keep everything in memory"

// redisParameters are what the query of a redis.url may hold. The library knows
// more; those would change how long a request waits, or switch checks of TLS off.
var redisParameters = []string{"addr", "cluster", "db", "master_name", "pool_size", "sentinel_password", "sentinel_username"}

// parseRedis understands a redis.url. Its errors quote nothing of it, since a
// slip in writing can put the password anywhere.
func parseRedis(text string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is not a URL (a password needs its special characters percent-encoded)")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("has a query that is not understood")
	}
	if err := cmp.Or(checkRedisServer(u), checkRedisNames(query), checkRedisValues(query), checkRedisForm(u, query)); err != nil {
		return nil, err
	}
	switch {
	case query.Has("master_name"):
		return parseSentinel(u, query)
	case query.Has("cluster"), query.Has("addr"):
		return parseCluster(u, query)
	}
	return parseSingle(text)
}

func checkRedisServer(u *url.URL) error {
	switch {
	case !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme):
		return errors.New("has an unknown scheme")
	case strings.Contains(u.String(), "#"):
		return errors.New("has a fragment (a password needs its special characters percent-encoded)")
	case u.Scheme == "unix" && (u.Host != "" || strings.Trim(u.Path, "/") == ""):
		return errors.New("does not name the socket by its whole path, as unix:///run/redis.sock does")
	case u.Scheme != "unix" && u.Hostname() == "":
		return errors.New("names no host")
	}
	return nil
}

// checkRedisNames refuses parameters that would otherwise be ignored in silence.
func checkRedisNames(query url.Values) error {
	for name, values := range query {
		switch {
		case !slices.Contains(redisParameters, name):
			return errors.New("has a parameter other than " + strings.Join(redisParameters, ", "))
		case len(values) > 1 && name != "addr":
			return errors.New("has the parameter " + name + " twice")
		case slices.Contains(values, ""):
			return errors.New("has nothing in its parameter " + name)
		}
	}
	return nil
}

func checkRedisValues(query url.Values) error {
	switch {
	case query.Has("cluster") && query.Get("cluster") != "true":
		return errors.New("has a parameter cluster that is not true")
	case query.Has("pool_size") && !isBetween(query.Get("pool_size"), 1, 10_000):
		return errors.New("has a pool_size that is no number from 1 to 10000")
	case query.Has("db") && !isBetween(query.Get("db"), 0, 1<<20):
		return errors.New("has a db that is no number of a database")
	}
	return nil
}

// checkRedisForm refuses what belongs to another form of servers.
func checkRedisForm(u *url.URL, query url.Values) error {
	sentinel, cluster := query.Has("master_name"), query.Has("cluster") || query.Has("addr")
	database := strings.Trim(u.Path, "/")
	switch {
	case sentinel && query.Has("cluster"):
		return errors.New("has master_name, of Sentinel, and cluster: one of them is too much")
	case !sentinel && (query.Has("sentinel_username") || query.Has("sentinel_password")):
		return errors.New("has parameters of Sentinel without master_name")
	case u.Scheme == "unix" && (sentinel || cluster):
		return errors.New("has parameters of several servers, and a Unix socket is one")
	case u.Scheme == "unix":
		return nil
	case query.Has("db"):
		return errors.New("has the parameter db, though the database is the path, as in redis://HOST:PORT/1")
	case database != "" && !isBetween(database, 0, 1<<20):
		return errors.New("has a path that is no number of a database")
	case cluster && !sentinel && database != "" && database != "0":
		return errors.New("has a database, and a cluster has none but 0")
	}
	return nil
}

func isBetween(text string, low, high int) bool {
	number, err := strconv.Atoi(text)
	return err == nil && low <= number && number <= high
}

// The library's parsers have the last word. What they say is not shown, since
// they quote.

func parseSingle(text string) (*redis.UniversalOptions, error) {
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, errors.New("is not understood")
	}
	return &redis.UniversalOptions{
		Addrs: []string{o.Addr}, Username: o.Username, Password: o.Password, DB: o.DB, PoolSize: o.PoolSize, TLSConfig: o.TLSConfig,
	}, nil
}

// parseSentinel takes the user and the password of the URL for those of Redis, as
// in every other form. The library takes them for Sentinel's, which mostly has none.
func parseSentinel(u *url.URL, query url.Values) (*redis.UniversalOptions, error) {
	o, err := redis.ParseFailoverURL(without(u, query, "sentinel_username", "sentinel_password"))
	if err != nil {
		return nil, errors.New("has an addr that is not HOST:PORT")
	}
	return &redis.UniversalOptions{
		Addrs: o.SentinelAddrs, MasterName: o.MasterName, SentinelUsername: query.Get("sentinel_username"), SentinelPassword: query.Get("sentinel_password"),
		Username: o.SentinelUsername, Password: o.SentinelPassword, DB: o.DB, PoolSize: o.PoolSize, TLSConfig: o.TLSConfig,
	}, nil
}

func parseCluster(u *url.URL, query url.Values) (*redis.UniversalOptions, error) {
	o, err := redis.ParseClusterURL(without(u, query, "cluster"))
	if err != nil {
		return nil, errors.New("has an addr that is not HOST:PORT")
	}
	return &redis.UniversalOptions{
		Addrs: o.Addrs, IsClusterMode: true, Username: o.Username, Password: o.Password, PoolSize: o.PoolSize, TLSConfig: o.TLSConfig,
	}, nil
}

// without is u without parameters that are ours and not the library's.
func without(u *url.URL, query url.Values, names ...string) string {
	rest := url.Values{}
	for name, values := range query {
		if !slices.Contains(names, name) {
			rest[name] = values
		}
	}
	stripped := *u
	stripped.RawQuery = rest.Encode()
	return stripped.String()
}
