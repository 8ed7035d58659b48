package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// traffic is clients that exchange a key without a pause, some over one connection each
// and some over a new one for each request, until they are told to stop, or nobody
// listens any more.
type traffic struct {
	t       *testing.T
	url     string
	form    string
	clients sync.WaitGroup
	done    chan struct{}

	mu     sync.Mutex
	issued map[string]time.Time // request ID of each token: when it was asked for
	failed map[string]string    // request ID of each request without one: what happened
	gone   int                  // clients that found nobody listening
}

// How many clients there are.
const (
	kept  = 8 // connections that are kept
	fresh = 4 // clients that connect anew each time
)

func beginTraffic(t *testing.T, url string, c credential) *traffic {
	t.Helper()
	l := &traffic{t: t, url: url, form: c.form().Encode(), done: make(chan struct{}), issued: map[string]time.Time{}, failed: map[string]string{}}
	for i := range kept + fresh {
		transport := &http.Transport{DisableKeepAlives: i >= kept}
		l.clients.Go(func() {
			defer transport.CloseIdleConnections()
			l.ask(i, &http.Client{Transport: transport, Timeout: patience})
		})
	}
	t.Cleanup(l.stop)
	return l
}

// ask sends one request after the other.
func (l *traffic) ask(number int, client *http.Client) {
	for n := 0; ; n++ {
		select {
		case <-l.done:
			return
		default:
		}
		id := fmt.Sprintf("load-%d-%d", number, n)
		began := time.Now()
		problem, err := l.exchange(client, id)
		if errors.Is(err, syscall.ECONNREFUSED) {
			l.note(func() { l.gone++ })
			return
		}
		l.note(func() {
			if problem == "" && err == nil {
				l.issued[id] = began
			} else {
				l.failed[id] = fmt.Sprint(problem, err)
			}
		})
	}
}

// exchange is one request. What is answered but not a token is a problem, what is not
// answered an error.
func (l *traffic) exchange(client *http.Client, id string) (problem string, err error) {
	request, err := http.NewRequest(http.MethodPost, l.url+"/api/login", strings.NewReader(l.form))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("X-Request-Id", id)
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(string(text), `"access_token"`)) {
		problem = fmt.Sprintf("%d %s ", response.StatusCode, text)
	}
	return problem, err
}

func (l *traffic) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// more waits until that many more tokens have been issued.
func (l *traffic) more(count int) {
	l.t.Helper()
	var want int
	l.note(func() { want = len(l.issued) + count })
	eventually(l.t, fmt.Sprintf("%d more tokens", count), func() (enough bool) {
		l.note(func() { enough = len(l.issued) >= want })
		return enough
	})
}

// stop ends the load and waits for what is under way.
func (l *traffic) stop() {
	l.note(func() {
		select {
		case <-l.done:
		default:
			close(l.done)
		}
	})
	l.clients.Wait()
}
