package bearer

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// After failures the pause doubles, from minBackoff to maxBackoff. What a source
	// asks for counts up to maxRetryAfter.
	minBackoff, maxBackoff, maxRetryAfter = 200 * time.Millisecond, 5 * time.Second, 15 * time.Second
	// maxCut is how many fetches in a row that wait for news may be cut until none waits
	// for waitAgain.
	maxCut, waitAgain = 3, time.Minute
)

// pace is what a Run has met with, which says how it goes on.
type pace struct {
	settled  bool          // the last fetch succeeded
	failures int           // of fetches in a row
	cut      int           // of fetches in a row that were to wait for news
	again    time.Duration // since the Feed began: when one waits again, if too many were cut
}

// wait is for how long the next fetch is to wait for news.
func (p *pace) wait(configured, now time.Duration) time.Duration {
	if p.cut >= maxCut && now < p.again {
		return 0
	}
	return max(configured, 0)
}

// waited takes note of how a fetch ended. Something between here and the issuer may
// refuse or cut requests that are held, and let all others pass. What was held for
// long, though not until it was given up, would have brought the news of that time.
func (p *pace) waited(wait, began, ended time.Duration, err error) {
	took := ended - began
	switch {
	case wait == 0:
	case err == nil:
		p.cut = 0
	case took < wait/2 || took > wait:
		p.cut++
		p.again = ended + waitAgain
	}
}

// backoff is how long to pause after a failure that came after others.
func backoff(before int, err error) time.Duration {
	pause := min(minBackoff<<min(before+1, 10), maxBackoff)
	pause = pause/2 + rand.N(pause/2) //nolint:gosec // not a secret
	if failure := (*FeedError)(nil); errors.As(err, &failure) && failure.RetryAfter > 0 {
		asked := min(failure.RetryAfter, maxRetryAfter)
		pause = max(pause, asked+rand.N(asked/10+1)) //nolint:gosec // not a secret
	}
	return pause
}

// rest pauses until ctx ends.
func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
