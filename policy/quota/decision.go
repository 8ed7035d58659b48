package quota

import (
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Demand is one exchange that wants to be admitted.
type Demand struct {
	Workspace workspace.ID
	Key       keys.ID
	PerMinute int64 // the key's own limit; 0: none
}

// Window is the state of one limit after a decision.
type Window struct {
	Name   string        // "minute", "key", "day" or "month"
	Quota  int64         // units in Length
	Length time.Duration // whole seconds
	Left   int64         // units; may be more than Quota if the burst is
	Reset  time.Duration // until more are there; 0: all are there
}

// Decision says whether an exchange is admitted.
type Decision struct {
	Allowed  bool
	Violated []string      // names of the limits that are exceeded; in Soft mode beside Allowed
	Wait     time.Duration // of a refusal: when to come back, never too early, and not all at the same instant
	Soft     bool          // the workspace's limits are only counted
	Degraded bool          // the source is away: this replica decides by its own share

	windows [maxRates + maxCounts]Window // an array, so that the common decision allocates nothing
	count   int
	policy  string // see Policy
}

// Windows are the limits that apply, in a fixed order; none: there is no limit.
func (d Decision) Windows() []Window { return slices.Clone(d.windows[:d.count]) }

func (d *Decision) add(w Window) {
	d.windows[d.count] = w
	d.count++
}
