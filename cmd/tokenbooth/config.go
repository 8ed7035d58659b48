package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// Config is everything an operator decides. Its shape is the shape of the
// configuration file; settings gives each field its key, its default and what it
// accepts. A Config from Load is valid, and holds secrets: never log it.
type Config struct {
	// Issuer is the `iss` of every token and the base of every published URL
	// (RFC 8414 section 2). Never empty after Load.
	Issuer string
	// Listen is the host:port of the public listener.
	Listen string

	Operations struct {
		// Listen is the host:port of /livez, /readyz and /metrics.
		Listen string
		// Profiling is whether that has /debug/pprof as well.
		Profiling bool
	}

	// Data is the directory of the embedded database and of generated secrets.
	Data string

	Database struct {
		// URL is sqlite:<path> or a postgres:// URL. Never empty after Load. Secret.
		URL string
		// Migrate is whether whoever opens the database brings its schema up to date. If not,
		// an older schema is refused, and `tokenbooth migrate` is for someone who may change tables.
		Migrate bool
	}
	Redis struct {
		// URL is empty when one process keeps everything in memory. Secret.
		URL string
		// CAFile is the PEM file of the CA of rediss:// servers; empty means the system's.
		CAFile string
	}

	// Secrets are empty where the operator gave none.
	Secrets struct {
		// Pepper is "version:base64" pairs, comma separated; the first is current.
		Pepper string
		// IDKey is the base64 installation key behind the MAC in every key ID.
		IDKey string
		// KeyEncryptionKey is "name:base64" or base64, comma separated; the first seals
		// signing keys at rest, all open them.
		KeyEncryptionKey string
	}

	Keys struct {
		// Prefix stands before k_, s_ and p_ in new key IDs and secrets.
		Prefix string
		// AcceptedPrefixes are earlier prefixes whose keys stay valid.
		AcceptedPrefixes []string
		// CacheSize bounds the key directory, in keys.
		CacheSize int
	}
	Tokens struct {
		// TTL is how long a token lives when its key does not say.
		TTL time.Duration
	}
	Signing struct {
		// PublishLead is how long a key is published before it signs.
		PublishLead time.Duration
		// RotateEvery is how long a key signs.
		RotateEvery time.Duration
		// Retain is how long a key stays published after it has signed.
		Retain time.Duration
	}
	Audiences struct {
		// Default is the audience of a token whose key names none; empty means the issuer.
		Default string
		// Servers are the registered resource servers.
		Servers []ResourceServer
	}
	Catalogue struct {
		// Resources maps each resource to its actions.
		Resources map[string][]string
		// Roles maps each role to patterns over the resources, such as "collectors:*".
		Roles map[string][]string
	}
	Exchange struct {
		// JSON is whether /api/login takes JSON bodies beside forms.
		JSON bool
		// Vouched is how long exchanges go on without the database while Redis tells what was revoked.
		Vouched time.Duration
		// Alone is how long they go on without the database when nobody does.
		Alone time.Duration
		// Failures bounds wrong credentials per source address, and per key ID and source address.
		Failures struct {
			Burst        int // at once
			PerMinute    int // sustained
			KeyBurst     int // at once, for one key ID
			KeyPerMinute int // sustained, for one key ID
		}
	}
	Revocation struct {
		// Journal is the file to which revocations are appended; empty means none.
		Journal string
	}
	Audit struct {
		// Heads is the file to which the heads of the audit chains are appended; empty means none.
		Heads string
		// Strict is whether an exchange is answered only when it is recorded.
		Strict bool
		// ExchangeRetention is how long exchanges are kept.
		ExchangeRetention time.Duration
	}
	Webhook struct {
		// URL is told what happens to keys; empty means nobody. Secret, since it may hold a token.
		URL string
		// Secret signs what it is told.
		Secret string
	}
	Console struct {
		// SessionLifetime is how long a session lasts from its beginning.
		SessionLifetime time.Duration
		// SessionIdle is how long it lasts without a request.
		SessionIdle time.Duration
	}
	SignIn struct {
		// OIDC is the provider that people sign in to the console with.
		OIDC struct {
			// Issuer is empty when there is none.
			Issuer string
			// ClientID is what the provider calls this service.
			ClientID string
			// ClientSecret is empty for a public client. Secret.
			ClientSecret string
			// Name is the provider as people know it.
			Name string
			// Scopes are asked for; openid is among them.
			Scopes []string
			// Claim is the one that holds a person's groups; empty means that groups say nothing.
			Claim string
			// Admins are the groups of organization admins; none means that the provider does not say who is one.
			Admins []string
			// Workspaces gives groups roles in workspaces.
			Workspaces []MappedWorkspace
		}
	}
	Gateway struct {
		// Audience is that of the services behind the gateways; empty means that no gateway may ask anything.
		Audience string
	}
	HTTP struct {
		// TrustedProxies are the networks whose X-Forwarded-For is believed, and whose gateways may ask.
		TrustedProxies []netip.Prefix
		// ShutdownDelay is how long to keep serving after /readyz turned 503.
		ShutdownDelay time.Duration
		// DrainTimeout is how long running requests may take after that.
		DrainTimeout time.Duration
	}
	Tracing struct {
		// Endpoint is the URL of the OpenTelemetry collector; empty means that nothing is traced.
		Endpoint string
		// Headers are NAME=VALUE pairs that it wants to see, comma separated. Secret.
		Headers string
		// SampleRatio is the part of all requests that is traced, from 0 to 1.
		SampleRatio float64
	}
	Log struct {
		Level  string // debug, info, warn or error
		Format string // json or text
	}
}

// ResourceServer is a service that accepts our tokens.
type ResourceServer struct {
	Audience  string         `json:"audience" yaml:"audience"`
	Resources []string       `json:"resources" yaml:"resources,flow"`                // empty means all
	Profile   string         `json:"profile,omitempty" yaml:"profile,omitempty"`     // what its tokens are like: policy.Profiles
	Algorithm string         `json:"algorithm,omitempty" yaml:"algorithm,omitempty"` // empty means the profile's, as below
	Type      string         `json:"type,omitempty" yaml:"type,omitempty"`           // the typ header
	Claims    map[string]any `json:"claims,omitempty" yaml:"claims,flow,omitempty"`  // the same in each token
}

// MappedWorkspace gives a group of the OpenID provider a role in a workspace.
type MappedWorkspace struct {
	Value     string `json:"value" yaml:"value"` // of the claim
	Workspace string `json:"workspace" yaml:"workspace"`
	Role      string `json:"role" yaml:"role"`
}

// setting is one leaf of Config: what people call it and what it accepts. The file's
// keys, the environment's names, --set, validation, `config print` and the help all
// follow from it.
type setting struct {
	key     string // the path in the file, joined by dots
	field   any    // pointer to the field of Config
	initial string // the default, written as in the environment
	derived string // or what it is derived from, for people
	accepts string // completes "it accepts …"
	secret  bool
	check   func() error // nil when every value of the type will do; may join errors

	source string // who had the last word
	failed bool   // a value given could not be read, so the field means nothing
}

const day = 24 * time.Hour

const fromDefault = "default"

// settings describes every leaf of c, in the order of the file.
func settings(c *Config) []*setting {
	return []*setting{
		{key: "issuer", field: &c.Issuer, derived: "http://localhost:PORT, when listen is a loopback address", check: func() error { return checkIssuer(c.Issuer, c.Listen) },
			accepts: "an https URL without query, fragment or trailing slash (http only for a loopback host), such as https://login.example.com"},
		{key: "listen", field: &c.Listen, initial: "127.0.0.1:8080", accepts: acceptsAddress, check: on(&c.Listen, checkAddress)},
		{key: "operations.listen", field: &c.Operations.Listen, initial: "127.0.0.1:9090", accepts: acceptsAddress + " other than listen",
			check: func() error { return checkOperations(c.Operations.Listen, c.Listen) }},
		{key: "operations.profiling", field: &c.Operations.Profiling, initial: "false",
			accepts: "true, so that operations.listen serves /debug/pprof as well, or false"},
		{key: "data", field: &c.Data, initial: "./tokenbooth-data", accepts: "the path of a directory", check: on(&c.Data, checkPresent)},
		{key: "database.url", field: &c.Database.URL, derived: "sqlite:DATA/tokenbooth.db", secret: true, check: on(&c.Database.URL, checkDatabase),
			accepts: "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE"},
		{key: "database.migrate", field: &c.Database.Migrate, initial: "true",
			accepts: "true, so that a server brings the schema up to date when it starts, or false, to leave that to `tokenbooth migrate`"},
		{key: "redis.url", field: &c.Redis.URL, secret: true, check: on(&c.Redis.URL, checkRedis),
			accepts: acceptsRedis},
		{key: "redis.ca_file", field: &c.Redis.CAFile, check: func() error { return checkRedisCA(c) },
			accepts: "the path of a PEM file with the CA of rediss:// servers, or nothing for the system's"},
		{key: "secrets.pepper", field: &c.Secrets.Pepper, secret: true, check: on(&c.Secrets.Pepper, checkPepper),
			accepts: "VERSION:BASE64 of 32 bytes, several separated by commas with the current one first, such as 1:$(openssl rand -base64 32)"},
		{key: "secrets.id_key", field: &c.Secrets.IDKey, secret: true, check: on(&c.Secrets.IDKey, checkIDKey),
			accepts: "the base64 of 32 bytes, from `openssl rand -base64 32`"},
		{key: "secrets.key_encryption_key", field: &c.Secrets.KeyEncryptionKey, secret: true, check: on(&c.Secrets.KeyEncryptionKey, checkKeyEncryptionKey),
			accepts: "the base64 of 32 bytes, from `openssl rand -base64 32`, or NAME:BASE64, several separated by commas with the one that seals first"},
		{key: "keys.prefix", field: &c.Keys.Prefix, initial: "tb", accepts: acceptsPrefix, check: on(&c.Keys.Prefix, keys.CheckPrefix)},
		{key: "keys.accepted_prefixes", field: &c.Keys.AcceptedPrefixes, accepts: "a list of earlier prefixes, each " + acceptsPrefix,
			check: on(&c.Keys.AcceptedPrefixes, each(keys.CheckPrefix))},
		number("keys.cache_size", &c.Keys.CacheSize, 100_000, 100, 10_000_000),
		duration("tokens.ttl", &c.Tokens.TTL, 10*time.Minute, time.Minute, time.Hour),
		duration("signing.publish_lead", &c.Signing.PublishLead, signing.DefaultTiming.PublishLead, 11*time.Minute, 30*day),
		rotation(c),
		duration("signing.retain", &c.Signing.Retain, signing.DefaultTiming.Retain, 70*time.Minute, 90*day),
		{key: "audiences.default", field: &c.Audiences.Default, check: func() error { return checkDefaultAudience(c) },
			accepts: "the audience of one of audiences.servers, or nothing for the issuer"},
		{key: "audiences.servers", field: &c.Audiences.Servers, check: func() error { return checkServers(c) },
			accepts: "a list such as [{audience: https://api.example.com, resources: [collectors], profile: spring}]; without resources, all. " +
				"A profile says what tokens are like: " + strings.Join(policy.Profiles(), ", ") + "; algorithm (" + strings.Join(policy.Algorithms(), ", ") +
				"), type (" + strings.Join(policy.Types(), ", ") + ") and claims (such as {role: api}) say it one by one"},
		{key: "catalogue.resources", field: &c.Catalogue.Resources, check: func() error { return checkResources(c) },
			accepts: "resources with their actions, such as {collectors: [read, update]}; names are lower-case letters, digits and hyphens, a letter first"},
		{key: "catalogue.roles", field: &c.Catalogue.Roles, check: func() error { return checkRoles(c) },
			accepts: "roles with their scopes, such as {auditor: [\"*:read\", \"collectors:*\"]}; viewer, editor and admin are built in"},
		{key: "exchange.json", field: &c.Exchange.JSON, initial: "true", accepts: "true or false"},
		duration("exchange.vouched", &c.Exchange.Vouched, change.MaxVouched, 0, change.MaxVouched),
		duration("exchange.alone", &c.Exchange.Alone, 0, 0, change.MaxAlone),
		number("exchange.failures.burst", &c.Exchange.Failures.Burst, 120, 1, 1_000_000),
		number("exchange.failures.per_minute", &c.Exchange.Failures.PerMinute, 20, 1, 1_000_000),
		number("exchange.failures.key_burst", &c.Exchange.Failures.KeyBurst, 30, 1, 1_000_000),
		number("exchange.failures.key_per_minute", &c.Exchange.Failures.KeyPerMinute, 10, 1, 1_000_000),
		{key: "revocation.journal", field: &c.Revocation.Journal, accepts: "the path of a file off the database's disk, in a directory that exists, to which every revocation is appended before it is acknowledged; " +
			"each replica needs its own; or nothing"},
		{key: "audit.heads", field: &c.Audit.Heads, accepts: "the path of a file off the database's disk, to which the ends of the audit chains are appended each minute, or nothing"},
		{key: "audit.strict", field: &c.Audit.Strict, initial: "false", accepts: "true, so that an exchange is answered only when it is recorded, or false"},
		duration("audit.exchange_retention", &c.Audit.ExchangeRetention, 90*day, day, 3650*day),
		{key: "webhook.url", field: &c.Webhook.URL, secret: true, check: on(&c.Webhook.URL, checkWebhook),
			accepts: "an https URL (http only for a loopback host) that is told what happens to keys, or nothing to tell nobody"},
		{key: "webhook.secret", field: &c.Webhook.Secret, secret: true, check: func() error { return checkWebhookSecret(c) },
			accepts: "the base64 of 24 to 64 bytes, from `openssl rand -base64 32`, or whsec_BASE64; required with webhook.url"},
		duration("console.session_lifetime", &c.Console.SessionLifetime, identity.DefaultLifetime, 15*time.Minute, 7*day),
		duration("console.session_idle", &c.Console.SessionIdle, identity.DefaultIdle, 5*time.Minute, day),
		{key: "sign_in.oidc.issuer", field: &c.SignIn.OIDC.Issuer, check: on(&c.SignIn.OIDC.Issuer, checkProvider),
			accepts: "the https URL of an OpenID provider (http only for a loopback host), just as it names itself, or nothing for passwords and passkeys alone"},
		{key: "sign_in.oidc.client_id", field: &c.SignIn.OIDC.ClientID, check: func() error { return checkClientID(c) },
			accepts: "what the provider calls this service; required with sign_in.oidc.issuer"},
		{key: "sign_in.oidc.client_secret", field: &c.SignIn.OIDC.ClientSecret, secret: true, check: func() error { return needsProvider(c, c.SignIn.OIDC.ClientSecret != "") },
			accepts: "the secret that the provider knows this service by, or nothing if it is a public client there"},
		{key: "sign_in.oidc.name", field: &c.SignIn.OIDC.Name, initial: "single sign-on", check: on(&c.SignIn.OIDC.Name, checkPresent),
			accepts: "the provider's name as people know it; the button says \"Sign in with\" and this"},
		{key: "sign_in.oidc.scopes", field: &c.SignIn.OIDC.Scopes, initial: "openid, profile, email", check: on(&c.SignIn.OIDC.Scopes, checkScopes),
			accepts: "a list of scopes to ask the provider for, openid among them"},
		{key: "sign_in.oidc.claim", field: &c.SignIn.OIDC.Claim, check: func() error { return needsProvider(c, c.SignIn.OIDC.Claim != "") },
			accepts: "the claim that holds a person's groups, such as groups, as a text or a list of them"},
		{key: "sign_in.oidc.admins", field: &c.SignIn.OIDC.Admins, check: func() error { return needsClaim(c, len(c.SignIn.OIDC.Admins) > 0) },
			accepts: "a list of groups whose people are organization admins, and nobody else who signs in with the provider, or nothing to leave that to people here"},
		{key: "sign_in.oidc.workspaces", field: &c.SignIn.OIDC.Workspaces, check: func() error { return checkMapping(c) },
			accepts: "a list such as [{value: payments-team, workspace: payments, role: manager}]; whoever signs in with the provider has the highest role that their groups give in each workspace that is named, or none"},
		{key: "gateway.audience", field: &c.Gateway.Audience, check: func() error { return checkGateway(c) },
			accepts: "the audience of one of audiences.servers, that of the services behind gateways which ask at /api/authz/…, or nothing, so that none may ask; needs http.trusted_proxies"},
		{key: "http.trusted_proxies", field: &c.HTTP.TrustedProxies, accepts: "a list of networks, such as 10.0.0.0/8 or 192.0.2.7/32",
			check: on(&c.HTTP.TrustedProxies, each(checkProxy))},
		duration("http.shutdown_delay", &c.HTTP.ShutdownDelay, 5*time.Second, 0, 5*time.Minute),
		duration("http.drain_timeout", &c.HTTP.DrainTimeout, 20*time.Second, time.Second, 10*time.Minute),
		{key: "tracing.endpoint", field: &c.Tracing.Endpoint, check: func() error { return checkTracing(c) },
			accepts: "the http or https URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318 (without a path, /v1/traces is meant), or nothing to trace nothing"},
		{key: "tracing.headers", field: &c.Tracing.Headers, secret: true, check: func() error { return checkTracingHeaders(c) },
			accepts: "NAME=VALUE pairs separated by commas, which the collector wants to see, such as Authorization=Bearer TOKEN; not without tracing.endpoint"},
		{key: "tracing.sample_ratio", field: &c.Tracing.SampleRatio, initial: "0.1", check: within(&c.Tracing.SampleRatio, 0, 1),
			accepts: "the part of all requests that is traced, a number from 0 to 1"},
		choice("log.level", &c.Log.Level, "info", "debug", "info", "warn", "error"),
		choice("log.format", &c.Log.Format, "json", "json", "text"),
	}
}

// variable is the setting's name in the environment.
func (s *setting) variable() string { return variableOf(s.key) }

func variableOf(key string) string {
	return "TOKENBOOTH_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func number(key string, field *int, initial, low, high int) *setting {
	return &setting{
		key: key, field: field, initial: fmt.Sprint(initial), check: within(field, low, high),
		accepts: fmt.Sprintf("a whole number from %d to %d", low, high),
	}
}

func duration(key string, field *time.Duration, initial, low, high time.Duration) *setting {
	return &setting{
		key: key, field: field, initial: shortDuration(initial), check: within(field, low, high),
		accepts: fmt.Sprintf("a duration from %s to %s, such as %s", shortDuration(low), shortDuration(high), shortDuration(initial)),
	}
}

// rotation is the setting that has to suit its neighbours.
func rotation(c *Config) *setting {
	s := duration("signing.rotate_every", &c.Signing.RotateEvery, signing.DefaultTiming.RotateEvery, time.Hour, 400*day)
	s.accepts += ", and no shorter than signing.publish_lead"
	inRange := s.check
	s.check = func() error { return cmp.Or(inRange(), checkSigning(c)) }
	return s
}

func choice(key string, field *string, initial string, words ...string) *setting {
	return &setting{
		key: key, field: field, initial: initial, check: among(field, words),
		accepts: "one of " + strings.Join(words, ", "),
	}
}

// within checks that *field lies from low to high, both included.
func within[T cmp.Ordered](field *T, low, high T) func() error {
	return func() error {
		if *field < low || *field > high {
			return fmt.Errorf("%v is out of range", *field)
		}
		return nil
	}
}

// on is a check of one field.
func on[T any](field *T, check func(T) error) func() error {
	return func() error { return check(*field) }
}

// shortDuration is d without the zero units that time.Duration prints: 10m, not 10m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
