package main

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// redisTracing is a hook that makes a span of each command that a traced request
// sends. It names the command, and nothing of what it is given.
type redisTracing struct{ *tracing }

// DialHook implements redis.Hook.
func (redisTracing) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (t redisTracing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		ctx, end := t.command(ctx, cmd.Name())
		err := next(ctx, cmd)
		end(err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (t redisTracing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		ctx, end := t.command(ctx, "pipeline")
		err := next(ctx, cmds)
		end(err)
		return err
	}
}

// command is the span of a command. That there is no such key is no error, nor that a
// script has to be sent first.
func (t redisTracing) command(ctx context.Context, name string) (context.Context, func(error)) {
	ctx, span := t.child(ctx, name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", name)))
	end := ending(span)
	return ctx, func(err error) {
		if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
			err = nil
		}
		end(err)
	}
}
