package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// flushTime is how long a server that ends waits for its last spans to be taken, and
// no longer than what is left of the time to drain.
const flushTime = 5 * time.Second

// tracing makes the spans of some requests. A nil one makes none, and nothing of it is
// in the way of a request then.
//
// A span tells names that are ours (routes, steps, tables), statuses, outcomes and IDs.
// What a client sent, what is stored and the text of errors never get into one: each
// may hold a secret, and a collector is no place for that.
type tracing struct {
	provider  *sdktrace.TracerProvider
	tracer    trace.Tracer
	collector *collector
	database  string // its kind
}

// newTracing returns nil unless there is somewhere to send spans. It connects to
// nothing.
func newTracing(ctx context.Context, config *Config, dialect schema.Dialect, log *slog.Logger) (*tracing, error) {
	warnOfIgnored(config, os.Environ(), log)
	if config.Tracing.Endpoint == "" {
		return nil, nil
	}
	// What the library has to say goes where everything else does.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", "error", err) }))
	collector, err := newCollector(config, log)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptrace.New(ctx, collector)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(describeReplica(ctx, log)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(config.Tracing.SampleRatio))),
	)
	database := "sqlite"
	if dialect == schema.PostgreSQL {
		database = "postgresql" // as the conventions of OpenTelemetry call it
	}
	return &tracing{provider, provider.Tracer("github.com/tokenbooth/tokenbooth"), collector, database}, nil
}

// describeReplica says whose spans these are. OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES have the last word.
func describeReplica(ctx context.Context, log *slog.Logger) *resource.Resource {
	host, _ := os.Hostname() // only for people
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "tokenbooth"),
		attribute.String("service.version", readBuild().Version),
		attribute.String("service.instance.id", fmt.Sprintf("%s:%d", host, os.Getpid())),
	), resource.WithFromEnv())
	if err != nil { // it holds what could be read
		log.Warn("OTEL_RESOURCE_ATTRIBUTES cannot be read whole: it is a list such as deployment.environment.name=production,team=identity")
	}
	return described
}

// traceContext reads the caller's traceparent (W3C Trace Context).
var traceContext propagation.TraceContext

// requests gives each request a trace of its own, which leads to that of the caller.
// Strangers may call, so theirs is not continued: they would decide what is kept, and
// what traces of others look like. Their tracestate is not taken over, since they may
// write anything there.
func (t *tracing) requests(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		ctx, span := t.tracer.Start(request.Context(), "request", append(callerOf(request), trace.WithSpanKind(trace.SpanKindServer))...)
		defer span.End()
		if !span.IsRecording() {
			return next(c)
		}
		c.SetRequest(request.WithContext(ctx))
		err := next(c)
		describeRequest(span, c)
		return err
	}
}

func callerOf(r *http.Request) []trace.SpanStartOption {
	caller := trace.SpanContextFromContext(traceContext.Extract(context.Background(), propagation.HeaderCarrier(r.Header)))
	if !caller.IsValid() {
		return nil
	}
	return []trace.SpanStartOption{trace.WithLinks(trace.Link{SpanContext: caller.WithTraceState(trace.TraceState{})})}
}

// describeRequest names the route and never the URL, in which someone may have put a
// secret.
func describeRequest(span trace.Span, c echo.Context) {
	method, status := knownMethod(c.Request().Method), c.Response().Status
	route := c.Path()
	span.SetName(strings.TrimSpace(method + " " + route))
	span.SetAttributes(
		attribute.String("http.request.method", method),
		attribute.String("http.route", route),
		attribute.Int("http.response.status_code", status),
		attribute.String("tokenbooth.request_id", c.Response().Header().Get(requestIDHeader)),
	)
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}

// noted is what the log line of a request tells that its span may tell as well. All
// of these are ours or proven.
var noted = map[string]bool{"outcome": true, "client_id": true, "workspace_id": true}

// note attaches facts about a request to its log line, and some to its span.
func (t *tracing) note(c echo.Context, attrs ...slog.Attr) {
	note(c, attrs...)
	if t == nil {
		return
	}
	span := trace.SpanFromContext(c.Request().Context())
	for _, a := range attrs {
		if noted[a.Key] {
			span.SetAttributes(attribute.String("tokenbooth."+a.Key, a.Value.String()))
		}
	}
}

// watching is one of the watchers below, or none without tracing.
func (t *tracing) watching(watch func(context.Context, string) (context.Context, func(error))) func(context.Context, string) (context.Context, func(error)) {
	if t == nil {
		return nil
	}
	return watch
}

// step is a span of one step of an exchange. A refusal is no error of ours.
func (t *tracing) step(ctx context.Context, name string) (context.Context, func(error)) {
	ctx, span := t.child(ctx, name)
	return ctx, func(err error) {
		if err != nil {
			outcome := grant.Outcome(err)
			span.SetAttributes(attribute.String("tokenbooth.outcome", outcome))
			if outcome == "unavailable" || outcome == "error" {
				span.SetStatus(codes.Error, "")
			}
		}
		span.End()
	}
}

// statement is a span of one statement to the database.
func (t *tracing) statement(ctx context.Context, query string) (context.Context, func(error)) {
	ctx, span := t.child(ctx, "", trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		summary := summaryOf(query)
		span.SetName(summary)
		span.SetAttributes(attribute.String("db.system.name", t.database), attribute.String("db.query.summary", summary))
	}
	return ctx, ending(span)
}

// child is a span below another one, or of nothing: what happens apart from requests,
// such as the renewal of a lease, is not traced.
func (t *tracing) child(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if parent := trace.SpanFromContext(ctx); !parent.IsRecording() {
		return ctx, noSpan
	}
	return t.tracer.Start(ctx, name, options...)
}

var noSpan = trace.SpanFromContext(context.Background())

func ending(span trace.Span) func(error) {
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// tables finds the tables of a statement; maxTables of them are named.
var tables = regexp.MustCompile(`(?i)\b(?:FROM|INTO|UPDATE|JOIN)\s+([a-z_]+)`)

const maxTables = 3

// summaryOf is what a statement does to which tables. Its text stays here: it is long,
// and one that held a value would give that away.
func summaryOf(query string) string {
	query = outsideParentheses(query) // or the tables of its parts would be found
	words := strings.Fields(query)
	if len(words) == 0 {
		return "statement"
	}
	summary := strings.ToUpper(words[0])
	for _, table := range tables.FindAllStringSubmatch(query, maxTables) {
		summary += " " + table[1]
	}
	return summary
}

func outsideParentheses(text string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
			return ' '
		}
		if depth > 0 {
			return -1
		}
		return r
	}, text)
}

// close sends what is left, while ctx lasts and for flushTime at most.
func (t *tracing) close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.collector.log.Warn("the last spans were not sent", "error", err)
	}
}

// spanCounts are spans by what became of them.
type spanCounts struct{ sent, lost uint64 }

func (t *tracing) counts() spanCounts {
	if t == nil {
		return spanCounts{}
	}
	return spanCounts{t.collector.sent.Load(), t.collector.lost.Load()}
}
