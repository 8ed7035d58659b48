package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// redisTimeout bounds each wait of a request for a connection, for sending and
	// for an answer. A frozen Redis costs that once, not the library's 5 s.
	redisTimeout = 100 * time.Millisecond
	// redisDialTimeout bounds a new connection with its TLS.
	redisDialTimeout = 200 * time.Millisecond
	// redisRedirects is enough for a slot that has moved and moves again.
	redisRedirects = 2
)

// newRedisClient makes a client of the configured Redis; it does not connect yet.
// Nothing is sent twice: a script whose answer is lost may have run, and would
// count twice.
func newRedisClient(c *Config) (redis.UniversalClient, error) {
	o, err := parseRedis(c.Redis.URL)
	if err != nil {
		return nil, fmt.Errorf("redis.url: it %w", err)
	}
	if err := secureRedis(o.TLSConfig, c.Redis.CAFile); err != nil {
		return nil, fmt.Errorf("redis.ca_file: %w", err)
	}
	logging.Disable() // the library writes lines of its own to standard error; its errors come back anyway
	o.DialTimeout, o.DialerRetries = redisDialTimeout, 1
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisTimeout, redisTimeout, redisTimeout
	o.MaxRetries, o.MaxRedirects = -1, redisRedirects
	o.MinRetryBackoff, o.MaxRetryBackoff = -1, -1
	o.ContextTimeoutEnabled = true
	// Each would be a command more on every new connection, and one more to permit.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if o.IsClusterMode {
		return newRedisCluster(o.Cluster()), nil
	}
	return redis.NewUniversalClient(o), nil
}

// newRedisCluster makes a client of a cluster that reads from masters only.
func newRedisCluster(o *redis.ClusterOptions) *redis.ClusterClient {
	// The policies would ask the servers for COMMAND, which may be forbidden, and
	// again before each command while it fails.
	o.DisableRoutingPolicies = true
	client := redis.NewClusterClient(o)
	client.OnNewNode(func(node *redis.Client) { node.AddHook(sentOnce{}) })
	return client
}

// secureRedis makes a TLS configuration, nil without TLS, trust a CA of its own.
func secureRedis(config *tls.Config, caFile string) error {
	if config == nil {
		if caFile != "" {
			return errors.New("is set, but redis.url does not begin with rediss://")
		}
		return nil
	}
	config.MinVersion = tls.VersionTLS12
	if caFile == "" {
		return nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", caFile, reason(err))
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate in PEM", caFile)
	}
	return nil
}

// sentOnce keeps the client of a cluster, which follows redirections, from sending
// a command again that was not answered: it repeats after the errors that it knows,
// and does not know this one. Only pipelines escape it; theirs must bear repetition.
type sentOnce struct{}

// unanswered is an error of the network. It has no Unwrap, on purpose.
type unanswered struct{ cause error }

func (u unanswered) Error() string { return u.cause.Error() }

func (sentOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		var reply redis.Error
		if err == nil || errors.As(err, &reply) || errors.Is(err, redis.ErrClosed) {
			return err
		}
		return unanswered{err}
	}
}

func (sentOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (sentOnce) DialHook(next redis.DialHook) redis.DialHook { return next }
