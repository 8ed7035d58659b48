package bearer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

const (
	// feedTimeout is how much later than it waits for news a fetch may have an answer.
	feedTimeout = 10 * time.Second
	// firstTimeout bounds how long the first token waits for the list.
	firstTimeout = 2 * time.Second
	// firstCooldown is the least time between two fetches for a first token.
	firstCooldown = time.Second

	// gatherTime is left between two fetches that brought something, so that many
	// revocations at once do not cause as many fetches.
	gatherTime = 100 * time.Millisecond
)

// Run follows the feed until ctx ends. It returns then, once the file is written,
// and leaves nothing behind that runs.
func (f *Feed) Run(ctx context.Context) {
	var p pace
	for ctx.Err() == nil {
		pause, err := f.follow(ctx, &p)
		p.settled = err == nil
		if p.settled {
			p.failures = 0
		} else {
			pause = backoff(p.failures, err)
			p.failures++
		}
		rest(ctx, pause)
	}
	f.finish()
}

// follow fetches what is new, and says how long to pause then. It waits for news
// only when settled: what was not confirmed just now is better confirmed at once.
func (f *Feed) follow(ctx context.Context, p *pace) (pause time.Duration, err error) {
	before := f.elapsed()
	wait := p.wait(f.config.Wait, before)
	switch {
	case !f.loaded.Load():
		return 0, f.once(ctx)
	case !p.settled && wait > 0:
		_, err = f.fetch(ctx, 0)
		return 0, err
	}
	news, err := f.fetch(ctx, wait)
	now := f.elapsed()
	p.waited(wait, before, now, err)
	switch {
	case news:
		return gatherTime, err
	case wait > 0 && now-before >= wait/2:
		return 0, err
	}
	return jitter(2 * f.config.Poll), err // also if nobody between here and there knows of waiting
}

// Refresh fetches what is new now. Call it at start, to find out early when
// something is wrong, and with ctx bounded.
func (f *Feed) Refresh(ctx context.Context) error {
	release, err := f.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, err = f.fetch(ctx, 0)
	return err
}

// known makes sure that there is a list. When there is none, one call fetches it,
// and the others wait for that.
func (f *Feed) known(ctx context.Context) error {
	if f.loaded.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	err := f.resting()
	if err == nil {
		err = f.once(ctx)
	}
	if err != nil && !f.loaded.Load() {
		return fmt.Errorf("%w: %s", ErrRevocationsUnknown, err.Error()) // its kind is not for who asks about a token
	}
	return nil
}

// resting returns the failure of the last fetch, if that was just now.
func (f *Feed) resting() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.failure != nil && f.elapsed()-f.failedAt < firstCooldown {
		return f.failure
	}
	return nil
}

// once fetches everything, unless somebody does meanwhile: then it has that one's
// result.
func (f *Feed) once(ctx context.Context) error {
	before := f.fetches.Load()
	release, err := f.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if f.loaded.Load() {
		return nil
	}
	if f.fetches.Load() != before {
		if err := f.resting(); err != nil {
			return err
		}
	}
	_, err = f.fetch(ctx, 0)
	return err
}

// take waits for the turn to fetch at once.
func (f *Feed) take(ctx context.Context) (release func(), err error) {
	select {
	case f.turn <- struct{}{}:
		return func() { f.fetches.Add(1); <-f.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another fetch takes long: %w", ctx.Err())
	}
}

// fetch fetches what is new and takes it in; when something is missing in between,
// it fetches everything. It reports whether there was anything new.
func (f *Feed) fetch(ctx context.Context, wait time.Duration) (news bool, err error) {
	f.mu.RLock()
	asked := f.list.Position
	f.mu.RUnlock()
	news, err = f.apply(ctx, asked, asked, wait)
	var failure *FeedError
	if errors.As(err, &failure) && failure.Kind == FeedGap && asked != (oauth.Position{}) {
		return f.apply(ctx, asked, oauth.Position{}, 0)
	}
	return news, err
}

// apply takes in what the source says is new since a position, while the list was
// at another one or the same. It is news also if another fetch was faster.
func (f *Feed) apply(ctx context.Context, asked, since oauth.Position, wait time.Duration) (news bool, err error) {
	update, err := f.config.Source.Fetch(ctx, since, wait)
	if err != nil {
		return false, f.failed(ctx, err)
	}
	now := f.config.Now()
	failure, moved := update.check(now), false
	if failure == nil {
		moved, failure = f.add(&update, asked, now)
	}
	if failure != nil {
		failure.Err = fmt.Errorf("the revocations of %s: %w", f.config.Issuer, failure.Err)
		return false, f.failed(ctx, failure)
	}
	moved = f.keep() && moved
	f.observe(FeedEvent{Full: update.From == 0, Moved: moved, NewEpoch: asked != (oauth.Position{}) && moved && update.Epoch != asked.Epoch})
	return asked.Before(update.Position), nil
}

// add takes an update in, and tells how far it goes if there is no file to have
// that first.
func (f *Feed) add(u *FeedUpdate, asked oauth.Position, now time.Time) (moved bool, failure *FeedError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, at, first := f.list.Position, f.list.at, !f.list.loaded
	if failure = f.list.take(u, asked, now); failure != nil {
		return false, failure
	}
	if f.list.at != at {
		f.confirm(now)
	}
	f.failure = nil
	if f.file.path == "" {
		f.tell(f.list.Position)
	}
	f.loaded.Store(true)
	return first || f.list.Position != before, nil
}

// failed notes why a fetch failed, unless it was because nobody wants it any more.
func (f *Feed) failed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	f.mu.Lock()
	f.failure, f.failedAt = err, f.elapsed()
	f.mu.Unlock()
	event := FeedEvent{Failure: FeedUnreachable, Err: err}
	if failure := (*FeedError)(nil); errors.As(err, &failure) {
		event.Failure = failure.Kind
	}
	f.observe(event)
	return err
}

func (f *Feed) observe(e FeedEvent) {
	if f.config.Observe == nil {
		return
	}
	f.mu.RLock()
	e.Position, e.Entries, e.Age = f.told, len(f.list.entries), f.age()
	f.mu.RUnlock()
	f.config.Observe(e)
}
