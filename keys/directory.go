package keys

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// ErrUnavailable means that the directory may not answer from memory and the database does
// not answer either. It says nothing about the key.
var ErrUnavailable = errors.New("the key directory is unavailable")

const (
	loadTimeout   = 2 * time.Second
	parallelLoads = 8      // statements that a cold directory sends at once
	trackedMax    = 32_768 // subjects whose changes are remembered one by one
)

// Directory answers look-ups of keys from memory: bounded, and coherent with the
// database through the change sequence. A known key costs no SQL.
//
// One rule keeps it coherent: a record may be used if it was read at or after
// the last change of its key, its owner and its workspace. A record that was
// being read while a change went by fails the same rule, so there is no race to
// handle. Without the lease nothing is answered from memory.
type Directory struct {
	reader  sqlx.ExtContext
	held    func(context.Context) bool
	cache   *otter.Cache[ID, *Record]
	noting  sync.Mutex // of changes
	changed atomic.Pointer[changed]
	flights singleflight.Group
	loading *semaphore.Weighted
	loads   atomic.Uint64
}

// changed says from which number on a record must have been read. It is
// replaced, never modified.
type changed struct {
	floor   int64            // for every record
	subject map[string]int64 // for records that concern this subject
}

// NewDirectory makes an empty directory of at most size keys. It reads from
// reader, and answers from memory only while held reports the lease.
func NewDirectory(reader sqlx.ExtContext, held func(context.Context) bool, size int) (*Directory, error) {
	cache, err := otter.New(&otter.Options[ID, *Record]{MaximumSize: size})
	if err != nil {
		return nil, fmt.Errorf("key directory: %w", err)
	}
	d := &Directory{reader: reader, held: held, cache: cache, loading: semaphore.NewWeighted(parallelLoads)}
	d.changed.Store(&changed{})
	return d, nil
}

// Lookup returns the record of a key. workspace.ErrNotFound: there is no such
// key. ErrUnavailable: it cannot be known now. The record is shared.
func (d *Directory) Lookup(ctx context.Context, id ID) (*Record, error) {
	if !d.held(ctx) {
		return d.read(ctx, id)
	}
	record, ok := d.cache.GetIfPresent(id)
	for attempt := 0; !ok || !d.usable(record); attempt++ {
		if attempt == 5 {
			return nil, fmt.Errorf("%w: key %s: every read is older than the newest change", ErrUnavailable, id)
		}
		var err error
		if record, err = d.load(ctx, id); err != nil {
			return nil, err
		}
		ok = true
	}
	return record, nil
}

// Reread reads a record anew, for what is written without a change of its own: when
// its key was used.
func (d *Directory) Reread(ctx context.Context, id ID) (*Record, error) {
	record, err := d.read(ctx, id)
	if err == nil && d.held(ctx) {
		d.cache.Set(id, record)
	}
	return record, err
}

// Waste does the work of finding a key in memory, for an ID that does not exist.
func (d *Directory) Waste(ctx context.Context) {
	if d.held(ctx) {
		d.cache.GetIfPresent("")
		d.usable(&Record{})
	}
}

// usable applies the rule.
func (d *Directory) usable(r *Record) bool {
	c := d.changed.Load()
	return r.seq >= c.floor &&
		r.seq >= c.subject[string(r.ID)] &&
		r.seq >= c.subject[r.OwnerID()] &&
		r.seq >= c.subject[string(r.WorkspaceID)]
}

// Forget takes in a batch of changes: records that they touch are not used any
// more. It is called before the batch is acknowledged. An older batch that comes
// later takes nothing back.
func (d *Directory) Forget(_ context.Context, batch change.Batch) error {
	d.noting.Lock()
	defer d.noting.Unlock()
	old := d.changed.Load()
	if !batch.Complete || len(old.subject)+len(batch.Subjects) > trackedMax {
		d.changed.Store(&changed{floor: old.newest(batch.Seq)})
		d.cache.InvalidateAll()
		return nil
	}
	subject := maps.Clone(old.subject)
	if subject == nil {
		subject = map[string]int64{}
	}
	for s := range batch.Subjects {
		subject[s] = max(subject[s], batch.Seq)
	}
	d.changed.Store(&changed{floor: old.floor, subject: subject})
	return nil
}

// newest is the greatest number that was noted, or seq if that is greater.
func (c *changed) newest(seq int64) int64 {
	seq = max(seq, c.floor)
	for _, noted := range c.subject {
		seq = max(seq, noted)
	}
	return seq
}

// load reads a key once for all who ask for it at the same time. The read goes
// on when one of them hangs up.
func (d *Directory) load(ctx context.Context, id ID) (*Record, error) {
	flight := d.flights.DoChan(string(id), func() (any, error) {
		if record, ok := d.cache.GetIfPresent(id); ok && d.usable(record) {
			return record, nil // another flight landed since the caller looked
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		record, err := d.read(ctx, id)
		if err != nil {
			return nil, err
		}
		d.cache.Set(id, record)
		return record, nil
	})
	select {
	case result := <-flight:
		if result.Shared && errors.Is(result.Err, workspace.ErrNotFound) {
			return d.read(ctx, id) // the key may have been created after that read began
		}
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Record), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// read asks the database.
func (d *Directory) read(ctx context.Context, id ID) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	if err := d.loading.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("%w: too many keys are being read: %w", ErrUnavailable, err)
	}
	defer d.loading.Release(1)
	d.loads.Add(1)
	record, err := Read(ctx, d.reader, id)
	if errors.Is(err, workspace.ErrNotFound) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return record, nil
}

// Loads counts the reads from the database.
func (d *Directory) Loads() uint64 { return d.loads.Load() }

// Len is about how many keys are in memory.
func (d *Directory) Len() int { return d.cache.EstimatedSize() }
