//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"
)

// lull is how long a connection has to be silent before nobody waits for its next
// request any more, when the door is shut.
const lull = time.Second

// door is a listener that can be shut without cutting off who came in before.
//
// http.Server.Shutdown alone drops each request that it reads after it was called, also
// on connections that it has accepted, and connections that the system has accepted for
// it are reset.
type door struct {
	net.Listener
	closing atomic.Bool
	last    []net.Conn    // Accept's: who was waiting when it was closed
	closed  chan struct{} // nobody comes in any more
	once    sync.Once

	mu     sync.Mutex
	guests map[*guest]struct{}
}

// guest is an open connection.
type guest struct {
	net.Conn
	door   *door
	silent atomic.Int64 // since when it is, in Unix nanoseconds; 0: a request runs
}

func newDoor(listener net.Listener) *door {
	return &door{Listener: listener, closed: make(chan struct{}), guests: map[*guest]struct{}{}}
}

// Accept implements net.Listener. When the door is being shut, it closes the listener
// and lets in who was waiting.
func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err == nil {
		return d.admit(conn), nil
	}
	if d.closing.Load() {
		d.last = append(d.last, closeAfterLast(d.Listener)...)
		if len(d.last) > 0 {
			conn, d.last = d.last[0], d.last[1:]
			return d.admit(conn), nil
		}
		err = net.ErrClosed
	}
	if !momentary(err) {
		d.once.Do(func() { close(d.closed) })
	}
	return nil, err
}

// momentary reports whether http.Server calls Accept again after an error, such as that
// there are no more file descriptors.
func momentary(err error) bool {
	var e interface{ Temporary() bool }
	return errors.As(err, &e) && e.Temporary()
}

// closeAfterLast closes a listener and returns the connections that the system had
// accepted for it and nobody had taken: closed with it, they would be reset. Without a
// pause between the two hardly one comes in between.
func closeAfterLast(listener net.Listener) (last []net.Conn) {
	var waiting []int
	if l, ok := listener.(syscall.Conn); ok {
		if raw, err := l.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { waiting = acceptAll(int(fd)) }) // it fails if the listener is closed
		}
	}
	_ = listener.Close() // the same
	for _, fd := range waiting {
		file := os.NewFile(uintptr(fd), "connection")
		conn, err := net.FileConn(file) // a copy
		_ = file.Close()
		if err == nil {
			last = append(last, conn)
		}
	}
	return last
}

// acceptAll takes every connection that waits at a socket that does not block.
func acceptAll(socket int) (found []int) {
	for {
		fd, _, err := syscall.Accept(socket)
		switch err {
		case nil:
			syscall.CloseOnExec(fd)
			found = append(found, fd)
		case syscall.EINTR, syscall.ECONNABORTED:
		default:
			return found
		}
	}
}

// Close implements net.Listener. A server that is shut down closes its listener once
// more.
func (d *door) Close() error {
	if err := d.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (d *door) admit(conn net.Conn) *guest {
	g := &guest{Conn: conn, door: d}
	g.silent.Store(time.Now().UnixNano())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guests[g] = struct{}{}
	return g
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.door.mu.Lock()
	delete(g.door.guests, g)
	g.door.mu.Unlock()
	return g.Conn.Close()
}

// CloseWrite ends what is sent, for a client that has not been read to its end: closed at
// once, it would lose the answer.
func (g *guest) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// noteState is a hook of http.Server: it says whether a request runs.
func noteState(conn net.Conn, state http.ConnState) {
	g, ok := conn.(*guest)
	switch {
	case !ok:
	case state == http.StateActive:
		g.silent.Store(0)
	case state == http.StateIdle:
		g.silent.Store(time.Now().UnixNano())
	}
}

// shut closes the listener and returns when everybody who came in before is answered,
// or has said nothing for a while, or ctx ends. Answers should say meanwhile that they
// are the last ones of their connections.
func (d *door) shut(ctx context.Context) {
	d.closing.Store(true)
	if l, ok := d.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(time.Now()) // wakes Accept; it fails if the listener is closed, and then so does Accept
	}
	select {
	case <-d.closed:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for d.awaited() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaited reports whether a request runs, or may still come.
func (d *door) awaited() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := time.Now().Add(-lull).UnixNano()
	for g := range d.guests {
		if since := g.silent.Load(); since == 0 || since > before {
			return true
		}
	}
	return false
}

// lastAnswers tells clients while the server drains that a connection ends with this
// answer: they use another one for the next request, instead of one that is about to be
// closed under it.
func (s *server) lastAnswers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.draining.Load() {
			c.Response().Header().Set("Connection", "close")
		}
		return next(c)
	}
}
