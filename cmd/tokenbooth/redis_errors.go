package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisSlow is how long Redis may take before a call that the caller's own
// deadline ended speaks against Redis.
const redisSlow = 50 * time.Millisecond

// outcome is what the end of a call says about Redis.
type outcome int

const (
	unclear  outcome = iota // the caller left, or the client is closed
	answered                // Redis works, whatever it answered
	failed
)

// refusals begin the replies of a Redis that answers and yet does no work for us
// at all. Others, such as WRONGTYPE, NOPERM or the error of a script, concern the
// command: the next one may succeed, and a breaker would not help.
var refusals = []string{
	"LOADING", "BUSY", // later
	"READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", // no master, or none that may write
	"OOM", "MISCONF", // no memory, no disk
	"NOAUTH", "WRONGPASS", // not for us
	"ERR max number of clients",
}

// outcomeOf weighs the end of a call that took so long.
func outcomeOf(ctx context.Context, took time.Duration, err error) outcome {
	switch {
	case err == nil, isReply(err) && !refuses(err):
		return answered
	case errors.Is(err, redis.ErrClosed):
		return unclear
	case isReply(err):
		return failed
	case isOver(ctx) && took >= redisSlow:
		return failed
	case isOver(ctx), ctx.Err() != nil: // in the end or by its caller
		return unclear
	}
	return failed
}

// isOver reports whether the caller's deadline has passed. The connection has the
// same one, and may notice it before ctx does.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// isReply reports whether err is what Redis replied to this very command, redis.Nil
// included. A wrapped reply is one to another command: without it there was no connection.
func isReply(err error) bool {
	_, ok := err.(redis.Error) //nolint:errorlint // see above
	return ok
}

// refuses reports whether a reply is one of the refusals. Older servers put the
// code of what failed inside a script into the middle of their sentence.
func refuses(reply error) bool {
	text := reply.Error()
	return slices.ContainsFunc(refusals, func(code string) bool {
		return strings.HasPrefix(text, code+" ") || strings.Contains(text, " -"+code+" ")
	})
}

// worstOf is the error of a pipeline that speaks against Redis most.
func worstOf(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil && (!isReply(e) || refuses(e)) {
			return e
		}
	}
	return err
}

// redisReason says what is wrong in words that hold no secret. Of a reply that is
// the code alone, since some repeat what was sent, and that may be a password.
func redisReason(err error) string {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return err.Error()
	}
	code, _, _ := strings.Cut(reply.Error(), " ")
	if code == "" || strings.ToUpper(code) != code {
		return "an unknown reply"
	}
	return code
}

var (
	errSentinel     = mistake("redis.url names a Sentinel: add ?master_name=NAME to it")
	errOneOfCluster = mistake("redis.url names one server of a cluster: add ?cluster=true to it")
)

// redisMistake is what only the operator can mend, or nil: waiting does not help
// against a wrong password. redis.url is not to be shown.
func redisMistake(err error) error {
	var reply redis.Error
	switch {
	case !errors.As(err, &reply):
		return nil
	case redis.IsAuthError(err):
		return mistake("Redis refuses the user or the password of redis.url (" + redisReason(err) + ")")
	case redis.IsPermissionError(err):
		return mistake("the user of redis.url may not do what Tokenbooth needs: " + reply.Error())
	case errors.Is(err, redis.Nil):
		return mistake("no Sentinel knows the master that redis.url names")
	case strings.HasPrefix(reply.Error(), "MOVED "):
		return errOneOfCluster
	case refuses(reply):
		return nil
	}
	said, _, _ := strings.Cut(reply.Error(), ", with args") // which follow
	return mistake(fmt.Sprintf("Redis does not do what Tokenbooth needs: %s", said))
}

// mistake is an error that ends a start.
func mistake(text string) error {
	return exitWith(exitFailure, errors.New(text), "see Redis in deploy/docs/operations.md")
}
