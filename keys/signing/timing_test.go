package signing_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/signing"
)

func TestTimingChecksItsRelations(t *testing.T) {
	if err := signing.DefaultTiming.Check(); err != nil {
		t.Errorf("the default: %v", err)
	}
	seconds := signing.Timing{
		TokenTTL: 5 * time.Second, Skew: time.Second, MaxAge: 2 * time.Second,
		PublishLead: 5 * time.Second, RotateEvery: 5 * time.Second, Retain: 9 * time.Second,
	}
	if err := seconds.Check(); err != nil {
		t.Errorf("the least of everything, in seconds: %v", err)
	}
	for _, test := range []struct {
		change func(*signing.Timing)
		says   string
	}{
		{func(t *signing.Timing) { t.PublishLead-- }, "before it signs, and 5s are needed"},
		{func(t *signing.Timing) { t.Retain-- }, "its last token may need it for 9s"},
		{func(t *signing.Timing) { t.RotateEvery-- }, "its successor cannot be published for 5s"},
		{func(t *signing.Timing) { t.MaxAge++ }, "5.000000002s are needed"},
		{func(t *signing.Timing) { t.TokenTTL++ }, "for 9.000000001s"},
		{func(t *signing.Timing) { t.Skew++ }, "for 9.000000002s"},
		{func(t *signing.Timing) { t.TokenTTL = 0 }, "have to be positive"},
		{func(t *signing.Timing) { t.MaxAge = 0 }, "have to be positive"},
		{func(t *signing.Timing) { t.Skew = -1 }, "the skew of clocks not negative"},
	} {
		timing := seconds
		test.change(&timing)
		if err := timing.Check(); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, want an error that says %q", timing, err, test.says)
		}
	}
}
