package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is a page of a real Chromium, in a profile of its own. What the browser
// complains about is a fault, unless the test has said that it expects it.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

// browsing is held by the test that has a browser, and by sieges together: browsers
// are large, and a siege counts on its time.
var browsing sync.RWMutex

// newTab opens a browser; it is closed when the test ends.
func newTab(t *testing.T) *tab {
	t.Helper()
	browsing.Lock()
	t.Cleanup(browsing.Unlock)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-dev-shm-usage", true))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser is gone
		closeTab()
	})
	b := &tab{t: t, ctx: ctx}
	b.do(chromedp.Func(b.watch))
	return b
}

// watch collects the browser's complaints: errors on the console, exceptions, and
// what a policy of the page has kept from happening.
func (b *tab) watch(ctx context.Context, target *chromedp.Target) error {
	err := chromedp.Listen(b.ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
				b.complain("console.%s: %v", e.Type, e.Args)
			}
		case *runtime.EventExceptionThrown:
			b.complain("exception: %+v", e.ExceptionDetails)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
				b.complain("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
			}
		case *audits.EventIssueAdded:
			if d := e.Issue.Details.ContentSecurityPolicyIssueDetails; d != nil {
				b.complain("policy: %s %s", d.ViolatedDirective, d.BlockedURL)
			}
		}
	})
	if err != nil {
		return err
	}
	if _, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{}); err != nil {
		return err
	}
	_, err = cdp.Call(ctx, target, audits.Enable, cdp.Empty{})
	return err
}

func (b *tab) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, fmt.Sprintf(format, args...))
}

// clean checks that the browser complained about nothing but what contains one of
// the texts, and forgets it.
func (b *tab) clean(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, complaint := range b.complaints {
		known := false
		for _, text := range expected {
			known = known || strings.Contains(complaint, text)
		}
		if !known {
			b.t.Errorf("the browser complains: %s", complaint)
		}
	}
	b.complaints = nil
}

// do runs actions, each of which has to succeed in time.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if len(actions) > 0 && chromedp.FromContext(b.ctx).Target == nil {
		ctx = b.ctx // the browser lives as long as the context that it is opened with
	}
	for i, action := range actions {
		if err := chromedp.Do(ctx, action); err != nil {
			b.t.Fatalf("action %d: %v\non %s", i+1, err, b.outline())
		}
	}
}

// ask runs an action that has a result.
func ask[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%v\non %s", err, b.outline())
	}
	return result
}

// outline is where the browser is and what it shows, for messages.
func (b *tab) outline() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body?.innerText ?? "")`))
	if err != nil {
		return err.Error()
	}
	return text
}

// open goes to an address and waits for the page.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// press clicks what a selector finds and waits for the page that follows.
func (b *tab) press(css string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(css)))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(css))); err != nil {
		b.t.Fatalf("press %s: %v\non %s", css, err, b.outline())
	}
}

// click clicks what a selector finds and stays on the page.
func (b *tab) click(css string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(css), chromedp.NodeVisible))
}

// fill types into a field in the place of what is there.
func (b *tab) fill(css, text string) {
	b.t.Helper()
	b.do(chromedp.Clear(chromedp.CSS(css)), chromedp.SendKeys(chromedp.CSS(css), text))
}

// text is what a person reads in what a selector finds.
func (b *tab) text(css string) string {
	b.t.Helper()
	return ask(b, chromedp.Text(chromedp.CSS(css), chromedp.NodeReady))
}

// value is what is in a field.
func (b *tab) value(css string) string {
	b.t.Helper()
	return ask(b, chromedp.Value(chromedp.CSS(css)))
}

// path is where the browser is, without the host.
func (b *tab) path() string {
	b.t.Helper()
	return ask(b, chromedp.Evaluate[string](`location.pathname`))
}

// has reports whether the page shows a text now.
func (b *tab) has(text string) bool {
	b.t.Helper()
	return strings.Contains(ask(b, chromedp.Evaluate[string](`document.body?.innerText ?? ""`)), text)
}

// shows waits until the page shows a text.
func (b *tab) shows(text string) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%q on the page:\n%s", text, b.outline()), func() bool { return b.has(text) })
}

// noScript turns the page's scripts off, from the next page on.
func (b *tab) noScript() {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
}

// scheme makes the system's colours light or dark.
func (b *tab) scheme(name string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

// acceptDialogs answers every question of the browser itself, such as whether to
// leave a page, and counts them.
func (b *tab) acceptDialogs() (asked func() int) {
	b.t.Helper()
	var mu sync.Mutex
	n := 0
	err := chromedp.Listen(b.ctx, func(event any) {
		if _, ok := event.(*cdppage.EventJavascriptDialogOpening); ok {
			mu.Lock()
			n++
			mu.Unlock()
			go func() {
				_, _ = chromedp.Call(b.ctx, cdppage.HandleJavaScriptDialog, cdppage.HandleJavaScriptDialogParams{Accept: true})
			}()
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// axe is the script that judges whether everybody can use a page.
var axe = sync.OnceValues(func() (string, error) {
	script, err := os.ReadFile("testdata/browser/node_modules/axe-core/axe.min.js")
	return string(script), err
})

// accessible checks the page with axe, in light and dark: nothing serious.
func (b *tab) accessible() {
	b.t.Helper()
	script, err := axe()
	if err != nil {
		b.t.Fatal(err)
	}
	ask(b, chromedp.Evaluate[chromedp.Void](script+"\n;undefined"))
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		result := ask(b, chromedp.Evaluate[string](`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations))`, chromedp.EvalAwaitPromise))
		var violations []struct {
			ID, Impact, Help string
			Nodes            []struct {
				HTML           string
				FailureSummary string
			}
		}
		if err := json.Unmarshal([]byte(result), &violations); err != nil {
			b.t.Fatal(err)
		}
		for _, v := range violations {
			if v.Impact != "serious" && v.Impact != "critical" {
				continue
			}
			for _, node := range v.Nodes {
				b.t.Errorf("%s, %s: %s (%s): %s\n%s\n%s", b.path(), scheme, v.Help, v.ID, v.Impact, node.HTML, node.FailureSummary)
			}
		}
	}
	b.scheme("light")
}

// fits checks that a page needs no sideways scrolling on a phone.
func (b *tab) fits() {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(390, 844))
	if over := ask(b, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`)); over > 0 {
		b.t.Errorf("%s is %d pixels wider than a phone", b.path(), over)
	}
	b.do(chromedp.EmulateViewport(1280, 900))
}
