package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	sendTime     = 5 * time.Second // of one batch of spans
	tellInterval = time.Minute     // between two lines of the log about a collector that takes nothing
	tracesPath   = "/v1/traces"    // of a collector, when the endpoint has no path
)

// collector takes spans over OTLP/HTTP with protobuf bodies (OpenTelemetry Protocol
// 1.10). A batch that it does not take is dropped and counted: spans are not worth a
// queue that grows, and never make a request wait.
type collector struct {
	url    string
	header http.Header
	client *http.Client
	log    *slog.Logger
	told   atomic.Int64 // when the log last said that it takes nothing, in Unix seconds

	sent, lost atomic.Uint64
}

var _ otlptrace.Client = (*collector)(nil)

func newCollector(config *Config, log *slog.Logger) (*collector, error) {
	endpoint, err := url.Parse(config.Tracing.Endpoint)
	if err != nil {
		return nil, errors.New("tracing.endpoint is not a URL")
	}
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = tracesPath
	}
	header, err := parseHeaders(config.Tracing.Headers)
	if err != nil {
		return nil, fmt.Errorf("tracing.headers: %w", err)
	}
	header.Set("Content-Type", "application/x-protobuf")
	header.Set("User-Agent", "tokenbooth/"+readBuild().Version)
	return &collector{url: endpoint.String(), header: header, log: log, client: &http.Client{
		Timeout: sendTime,
		// Elsewhere nobody may have the headers.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Start implements otlptrace.Client.
func (*collector) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. It returns no error: the library could only
// write it down, and that is done here, not too often.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	err := c.send(ctx, spans)
	if err == nil {
		c.sent.Add(countSpans(spans))
		return nil
	}
	c.lost.Add(countSpans(spans))
	if now, told := time.Now().Unix(), c.told.Load(); now-told >= int64(tellInterval/time.Second) && c.told.CompareAndSwap(told, now) {
		c.log.Warn("the collector does not take spans, which are lost; nothing else depends on it", "error", err, "lost", c.lost.Load())
	}
	return nil
}

// send posts one batch. The message is TracesData, which is written just as the
// ExportTraceServiceRequest of the protocol is.
func (c *collector) send(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("write spans: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send spans: %w", err)
	}
	request.Header = c.header
	response, err := c.client.Do(request)
	if err != nil {
		return fmt.Errorf("send spans: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection is used again
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("send spans: it answers %d", response.StatusCode) // its text is a stranger's
	}
	return nil
}

func countSpans(batches []*tracepb.ResourceSpans) (n uint64) {
	for _, b := range batches {
		for _, s := range b.GetScopeSpans() {
			n += uint64(len(s.GetSpans()))
		}
	}
	return n
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// parseHeaders reads NAME=VALUE pairs, separated by commas. Errors quote no value.
func parseHeaders(text string) (http.Header, error) {
	header := http.Header{}
	for _, pair := range splitList(text) {
		name, value, ok := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || value == "":
			return nil, errors.New("has an item that is not NAME=VALUE")
		case !headerName.MatchString(name) || strings.ContainsFunc(value, unicode.IsControl):
			return nil, errors.New("has an item that is not the name and value of a header")
		}
		header.Set(name, value)
	}
	return header, nil
}

// checkTracing checks the endpoint. Spans may go over a private network unencrypted,
// as they do to a collector beside the server; the headers may not, since they let
// whoever reads them write there.
func checkTracing(c *Config) error {
	text := c.Tracing.Endpoint
	if text == "" {
		return nil
	}
	u, err := parsePlainURL(text)
	switch {
	case err != nil:
		return err
	case u.Port() == "4317":
		return fmt.Errorf("%q has the port of OTLP over gRPC, which is not spoken here; over HTTP it is 4318", text)
	case u.Scheme == "http" && c.Tracing.Headers != "" && !isLoopback(u.Hostname()):
		return fmt.Errorf("%q would carry tracing.headers unencrypted", text)
	}
	return nil
}

func checkTracingHeaders(c *Config) error {
	if c.Tracing.Headers != "" && c.Tracing.Endpoint == "" {
		return errors.New("is set, but tracing.endpoint is not")
	}
	_, err := parseHeaders(c.Tracing.Headers)
	return err
}

// instead is what to set here in place of standard variables that are not obeyed.
var instead = map[string]string{
	"ENDPOINT": "tracing.endpoint", "HEADERS": "tracing.headers",
	"PROTOCOL": "nothing, since OTLP is spoken over HTTP with protobuf bodies", "CERTIFICATE": "SSL_CERT_FILE",
	"SAMPLER": "tracing.sample_ratio", "SAMPLER_ARG": "tracing.sample_ratio",
}

// warnOfIgnored names the standard variables that somebody set, or an operator of
// Kubernetes injected, and that have no effect: nothing but our own configuration says
// where spans go.
func warnOfIgnored(config *Config, environ []string, log *slog.Logger) {
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(entry, "=")
		rest, ok := strings.CutPrefix(name, "OTEL_EXPORTER_OTLP_")
		if !ok {
			rest, ok = strings.CutPrefix(name, "OTEL_TRACES_")
		}
		rest = strings.TrimPrefix(rest, "TRACES_")
		if use := instead[rest]; ok && use != "" {
			log.Warn("a variable of OpenTelemetry is ignored", "variable", name, "instead", use, "tracing", config.Tracing.Endpoint != "")
		}
	}
}
