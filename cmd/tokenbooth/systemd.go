package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// systemd is the service manager that started this process, as its unit has
// Type=notify (sd_notify(3)). A nil one is none: everything does nothing then. To
// reach it never fails the server, only the log tells.
type systemd struct {
	socket string
	beat   time.Duration // how often it wants a sign of life; 0: never
	log    *slog.Logger
}

// newSystemd reads what the service manager has put into the environment.
func newSystemd(env *environment, log *slog.Logger) *systemd {
	socket := env.getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	return &systemd{socket: socket, beat: watchdogBeat(env), log: log}
}

// watchdogBeat is half of what the watchdog allows, as sd_watchdog_enabled(3) advises,
// or 0 without one. It may be meant for another process, whose environment we inherited.
func watchdogBeat(env *environment) time.Duration {
	pid := env.getenv("WATCHDOG_PID")
	if pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	microseconds, err := strconv.ParseInt(env.getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || microseconds <= 0 {
		return 0
	}
	return time.Duration(microseconds) * time.Microsecond / 2
}

// ready says that the server serves; whoever waits for the unit goes on.
func (m *systemd) ready(listen string) {
	m.notify("READY=1", "STATUS=Serving on "+listen)
}

// stopping says that it will end by itself, and for how long it still serves.
func (m *systemd) stopping(delay time.Duration) {
	m.notify("STOPPING=1", fmt.Sprintf("STATUS=Not ready any more; still serving for %s, then finishing what runs", delay))
}

// watch gives signs of life until ctx ends, each after /livez at the operations
// listener has answered: a server that accepts nothing any more is restarted.
func (m *systemd) watch(ctx context.Context, operations string) {
	if m == nil || m.beat == 0 {
		return
	}
	transport := &http.Transport{} // no proxy: the server is this process
	defer transport.CloseIdleConnections()
	alive := &http.Client{Transport: transport, Timeout: m.beat}
	tick := time.NewTicker(m.beat)
	defer tick.Stop()
	for {
		if m.lives(ctx, alive, operations) {
			m.notify("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lives asks /livez.
func (m *systemd) lives(ctx context.Context, client *http.Client, operations string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(operations)+"/livez", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			m.log.Warn("no sign of life for the watchdog of systemd: /livez did not answer", "error", err)
		}
		return false
	}
	_ = response.Body.Close() // it has been read, or the connection is given up
	return response.StatusCode == http.StatusOK
}

// notify sends assignments in one datagram. A socket whose name begins with @ is in
// the abstract namespace; package net knows that way to write it.
func (m *systemd) notify(assignments ...string) {
	if m == nil {
		return
	}
	conn, err := net.Dial("unixgram", m.socket)
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(assignments, "\n")))
		_ = conn.Close() // the datagram is sent
	}
	if err != nil {
		m.log.Warn("the service manager cannot be told", "what", assignments[0], "error", err)
	}
}
