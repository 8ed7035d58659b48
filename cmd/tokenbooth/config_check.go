package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

const (
	acceptsAddress = "HOST:PORT (such as 127.0.0.1:8080 or :8080)"
	acceptsPrefix  = "2 to 24 lower-case letters, digits and underscores, a letter first, such as tb or acme_live"
)

// localIssuer is the issuer of a server that only this machine can reach, and
// empty for any other. Port 0 is chosen at start, so it makes no issuer.
func localIssuer(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	switch {
	case err != nil || port == "0" || !isLoopback(host):
		return ""
	case host == "127.0.0.1":
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// checkIssuer follows RFC 8414 section 2, and refuses in addition what makes two
// spellings of one issuer, since verifiers compare it byte by byte.
func checkIssuer(issuer, listen string) error {
	if issuer == "" {
		return fmt.Errorf("is required, because listen (%s) has no loopback host with a fixed port to derive it from", listen)
	}
	u, err := parsePlainURL(issuer)
	switch {
	case err != nil:
		return err
	case strings.HasSuffix(issuer, "/"):
		return fmt.Errorf("%q ends in a slash", issuer)
	case u.Path != "" && path.Clean(u.Path) != u.Path || u.RawPath != "":
		return fmt.Errorf("%q has a path that is not in its plain form", issuer)
	case strings.ContainsAny(u.Path, ":*"): // which have a meaning in routes
		return fmt.Errorf("%q has a colon or an asterisk in its path", issuer)
	case u.Host != strings.ToLower(u.Host):
		return fmt.Errorf("%q has upper-case letters in its host", issuer)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("%q would carry secrets unencrypted", issuer)
	}
	return nil
}

// parsePlainURL parses an absolute http or https URL that has neither a user name nor a
// query or a fragment.
func parsePlainURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, errors.New("is not an absolute URL")
	case u.User != nil:
		return nil, errors.New("holds a user name or password")
	case strings.ContainsAny(text, "?#"):
		return nil, fmt.Errorf("%q has a query or a fragment", text)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q is not an https URL", text)
	}
	return u, nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsAny(host, " /") {
		return fmt.Errorf("%q is not an address to listen on", address)
	}
	return nil
}

// checkOperations keeps health and metrics off the public listener.
func checkOperations(operations, public string) error {
	if operations == public && !strings.HasSuffix(operations, ":0") {
		return fmt.Errorf("%q is the address of listen", operations)
	}
	return checkAddress(operations)
}

func checkPresent(value string) error {
	if value == "" {
		return errors.New("is empty")
	}
	return nil
}

func checkDatabase(text string) error {
	if file, ok := strings.CutPrefix(text, "sqlite:"); ok {
		return checkPresent(file)
	}
	return checkURL(text, "postgres", "postgresql")
}

func checkRedis(text string) error {
	if text == "" {
		return nil
	}
	_, err := parseRedis(text)
	return err
}

// checkRedisCA reads the file, so that `config check` finds what would fail later.
func checkRedisCA(c *Config) error {
	o, err := parseRedis(c.Redis.URL)
	switch {
	case c.Redis.CAFile == "" || c.Redis.URL != "" && err != nil: // then redis.url is what is wrong
		return nil
	case c.Redis.URL == "":
		return errors.New("is set, but redis.url is not")
	}
	return secureRedis(o.TLSConfig, c.Redis.CAFile)
}

// checkURL checks a URL that may hold a password, so its errors quote nothing.
func checkURL(text string, schemes ...string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("is not a URL (a password needs its special characters percent-encoded)")
	}
	if !slices.Contains(schemes, u.Scheme) {
		return errors.New("has an unknown scheme")
	}
	return nil
}

// The forms of secrets and prefixes are those of the packages that use them.
// Without a secret, one may be generated.

func checkPepper(text string) error {
	if text == "" {
		return nil
	}
	_, err := keys.ParsePeppers(text)
	return err
}

func checkIDKey(text string) error {
	if text == "" {
		return nil
	}
	_, err := keys.ParseKey(text)
	return err
}

func checkKeyEncryptionKey(text string) error {
	if text == "" {
		return nil
	}
	_, err := signing.ParseSealer(text)
	return err
}

// checkWebhook quotes nothing, since the URLs of chat services hold tokens.
func checkWebhook(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return errors.New("is not an absolute URL")
	case u.User != nil:
		return errors.New("holds a user name or password")
	case strings.Contains(text, "#"):
		return errors.New("has a fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("would carry events unencrypted")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("is not an https URL")
	}
	return nil
}

func checkWebhookSecret(c *Config) error {
	switch {
	case c.Webhook.Secret != "":
		_, err := webhook.ParseSecret(c.Webhook.Secret)
		return err
	case c.Webhook.URL != "" && checkWebhook(c.Webhook.URL) == nil:
		return errors.New("is required, because webhook.url is set and what it is told is signed")
	}
	return nil
}

// checkProxy refuses what would believe X-Forwarded-For from everybody.
func checkProxy(network netip.Prefix) error {
	switch {
	case network.Bits() == 0:
		return fmt.Errorf("%q lets every client choose its own address", network)
	case network != network.Masked():
		return fmt.Errorf("%q has bits set behind its mask; the network is %s", network, network.Masked())
	}
	return nil
}

// checkSigning checks how the bounds of the rotation relate, unless another one
// is wrong by itself.
func checkSigning(c *Config) error {
	timing := signingTiming(c)
	if timing.PublishLead < timing.MinLead() || timing.Retain < timing.MinRetain() {
		return nil
	}
	return timing.Check()
}

// audiencesOf are the registered resource servers, as package policy wants them.
func audiencesOf(c *Config) ([]policy.Audience, error) {
	var audiences []policy.Audience
	var mistakes []error
	for _, s := range c.Audiences.Servers {
		form, err := policy.NewForm(policy.FormOptions{Profile: s.Profile, Algorithm: s.Algorithm, Type: s.Type, Claims: s.Claims})
		for _, cause := range causes(err) {
			mistakes = append(mistakes, fmt.Errorf("the audience %q: %w", s.Audience, cause))
		}
		audiences = append(audiences, policy.Audience{Name: s.Audience, Resources: s.Resources, Form: form})
	}
	return audiences, errors.Join(mistakes...)
}

// audiences are those that the configuration registers, the issuer among them.
func audiences(c *Config, fallback string) (*policy.Audiences, error) {
	servers, errServers := audiencesOf(c)
	registered, err := policy.NewAudiences(c.Issuer, fallback, servers)
	if err := errors.Join(errServers, err); err != nil {
		return nil, err
	}
	return registered, nil
}

// The rules of catalogue and audiences are package policy's. A setting that
// builds on another one is not judged while that one is wrong.

func checkServers(c *Config) error {
	if checkIssuer(c.Issuer, c.Listen) != nil {
		return nil
	}
	_, err := audiences(c, "")
	errs := causes(err)
	for _, server := range c.Audiences.Servers {
		for _, resource := range server.Resources {
			if _, known := c.Catalogue.Resources[resource]; !known {
				errs = append(errs, fmt.Errorf("the audience %q lists the resource %q, which is not in catalogue.resources", server.Audience, resource))
			}
		}
	}
	return errors.Join(errs...)
}

func checkDefaultAudience(c *Config) error {
	if checkIssuer(c.Issuer, c.Listen) != nil || checkServers(c) != nil {
		return nil
	}
	_, err := audiences(c, c.Audiences.Default)
	return err
}

// checkGateway keeps tokens for the issuer, which carry management rights, out of the
// hands of services behind gateways.
func checkGateway(c *Config) error {
	audience := c.Gateway.Audience
	registered := slices.ContainsFunc(c.Audiences.Servers, func(s ResourceServer) bool { return s.Audience == audience })
	switch {
	case audience == "":
		return nil
	case audience == c.Issuer:
		return fmt.Errorf("%q is the issuer, and the services behind a gateway could use its tokens for the management API", audience)
	case !registered:
		return fmt.Errorf("%q is not in audiences.servers", audience)
	case len(c.HTTP.TrustedProxies) == 0:
		return errors.New("is set, but http.trusted_proxies is not, so no gateway could ask: list the networks of the gateways there")
	}
	return nil
}

func checkResources(c *Config) error {
	_, err := policy.NewCatalogue(c.Catalogue.Resources, nil)
	return err
}

func checkRoles(c *Config) error {
	if checkResources(c) != nil {
		return nil
	}
	_, err := policy.NewCatalogue(c.Catalogue.Resources, c.Catalogue.Roles)
	return err
}

// among checks that *field is one of words.
func among(field *string, words []string) func() error {
	return func() error {
		if !slices.Contains(words, *field) {
			return fmt.Errorf("%q is not one of them", *field)
		}
		return nil
	}
}

// each checks every item of a list.
func each[T any](check func(T) error) func([]T) error {
	return func(items []T) error {
		var errs []error
		for _, item := range items {
			if err := check(item); err != nil {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}
