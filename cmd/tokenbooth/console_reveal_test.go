package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// A secret is shown once, and one form makes one key: whatever is pressed, sent
// again, loaded again or gone back to, with and without script.
func TestSecretIsShownOnce(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]bool{"with script": true, "without script": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			r, address := setUpReady(t, onSQLite(data))
			db := openDB(t, "sqlite:"+filepath.Join(data, "tokenbooth.db"))
			b := newTab(t)
			if !script {
				b.noScript()
			}
			asked := b.acceptDialogs()
			b.setUp(address)
			keys := func() (n int) {
				t.Helper()
				if err := db.Reader().QueryRowxContext(t.Context(), `SELECT count(*) FROM keys`).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			gone := func(what, secret string) {
				t.Helper()
				if strings.Contains(b.source(), secret) {
					t.Errorf("%s: the secret is shown again", what)
				}
			}

			key := b.newKey(r.url, "reloaded")
			b.do(chromedp.Reload())
			b.shows("cannot be shown again")
			gone("loaded again", key.secret)
			b.open(r.url + "/w/payments/keys")
			for range 3 {
				b.back()
				gone("gone back to", key.secret)
			}
			if n := keys(); n != 1 {
				t.Errorf("there are %d keys, want 1", n)
			}
			wantToken(t, r.url, key)

			key = b.newKey(r.url, "left")
			b.open(r.url + "/w/payments/keys")
			if script && asked() == 0 {
				t.Error("leaving the secret unsaved was not asked about")
			}
			b.back()
			gone("gone back to", key.secret)

			b.open(r.url + "/w/payments/keys/new?scope=collectors:read&name=pressed-twice")
			b.do(chromedp.Func(pressTwice))
			b.shows("pressed-twice")
			eventually(t, "the key", func() bool { return keys() >= 3 })
			if n := keys(); n != 3 {
				t.Errorf("there are %d keys, want 3", n)
			}
			b.clean("409", "ERR_CACHE_MISS")
		})
	}
}

// back goes back, to whatever the browser shows then: it may be its own question
// whether to send a form again, and then it is answered with no.
func (b *tab) back() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	_ = chromedp.Do(ctx, chromedp.NavigateBack()) // it fails on the browser's own pages
}

// source is the page as the browser has it now, with what is in its fields.
func (b *tab) source() (html string) {
	b.t.Helper()
	eventually(b.t, "a page", func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		defer cancel()
		var err error
		html, err = chromedp.Run(ctx, chromedp.Evaluate[string](
			`document.documentElement.outerHTML + [...document.querySelectorAll("input, textarea")].map(e => e.value).join(" ")`))
		return err == nil
	})
	return html
}

// pressTwice clicks the button that creates a key twice as fast as it can.
func pressTwice(ctx context.Context, target *chromedp.Target) error {
	nodes, err := chromedp.Nodes(chromedp.CSS("main form[method=post] button[type=submit]"), chromedp.NodeVisible)(ctx, target)
	if err != nil {
		return err
	}
	if err := chromedp.Do(ctx, chromedp.ScrollIntoView(chromedp.CSS("main form[method=post] button[type=submit]"))); err != nil {
		return err
	}
	box, err := chromedp.Dimensions(chromedp.NodeIDs([]cdp.NodeID{nodes[0].NodeID}))(ctx, target)
	if err != nil {
		return err
	}
	x, y := (box.Content[0]+box.Content[4])/2, (box.Content[1]+box.Content[5])/2
	for range 2 {
		for _, kind := range []input.DispatchMouseEventType{chromedp.MousePressed, chromedp.MouseReleased} {
			_, err := cdp.Call(ctx, target, input.DispatchMouseEvent, input.DispatchMouseEventParams{
				Type: kind, X: x, Y: y, Button: input.MouseButtonLeft, ClickCount: 1,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
