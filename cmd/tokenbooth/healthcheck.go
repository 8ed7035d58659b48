package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newHealthcheckCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the local server whether it is ready",
		Long: `Healthcheck asks /readyz at the configured operations.listen. It prints the
answer and ends with 0 if the server is ready, with 3 if it is not or does not
answer: made for container health checks, where there is no curl.`,
		Example: `$ tokenbooth healthcheck`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := env.loadConfig()
			if err != nil {
				return err
			}
			return healthcheck(c.Context(), env, config.Operations.Listen)
		},
	}
}

func healthcheck(ctx context.Context, env *environment, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "http://" + reachable(address) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{} // no proxy: the server is on this machine
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return exitWith(exitRetry, err, "is the server running with this configuration?")
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return exitWith(exitRetry, err, "")
	}
	if response.StatusCode != http.StatusOK {
		return exitWith(exitRetry, errors.New("the server is not ready: "+strings.TrimSpace(string(body))), "")
	}
	_, err = fmt.Fprintln(env.stdout, strings.TrimSpace(string(body)))
	return err
}

// reachable turns an address that listens everywhere into one to connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
