package policy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// readTimeout bounds a read that an exchange waits for.
const readTimeout = 2 * time.Second

// Book holds the documents of one kind in memory, coherent with the database
// through the change sequence: Follow is called before a change is acknowledged.
// Without the lease it reads the database.
//
// A document that cannot be understood is passed over for the last one that can,
// and counted.
type Book[T any] struct {
	kind   Kind
	parse  func(string) (T, error)
	reader sqlx.ExtContext
	held   func(context.Context) bool
	log    *slog.Logger

	current atomic.Pointer[pages[T]] // replaced, never modified
}

// pages are the documents of each subject that has one.
type pages[T any] struct {
	seq       int64 // the newest change that was taken in
	documents map[string]Document[T]
	faults    map[string]error
}

// NewBook makes an empty book. It answers from memory while held reports the
// lease.
func NewBook[T any](kind Kind, parse func(string) (T, error), reader sqlx.ExtContext, held func(context.Context) bool, log *slog.Logger) *Book[T] {
	b := &Book[T]{kind: kind, parse: parse, reader: reader, held: held, log: log}
	b.current.Store(&pages[T]{documents: map[string]Document[T]{}, faults: map[string]error{}})
	return b
}

// Get returns the document of a subject, as of the change with that number or later;
// its zero value if there is none. The error means that it cannot be known now.
func (b *Book[T]) Get(ctx context.Context, subject string, since int64) (Document[T], error) {
	if documents, ok := b.inMemory(ctx, since); ok {
		return documents[subject], nil
	}
	return b.read(ctx, subject)
}

// inMemory are the documents of every subject as they were together; false: what is
// in memory may be older.
func (b *Book[T]) inMemory(ctx context.Context, since int64) (map[string]Document[T], bool) {
	now := b.current.Load()
	return now.documents, now.seq >= since && b.held(ctx)
}

// read asks the database.
func (b *Book[T]) read(ctx context.Context, subject string) (Document[T], error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	d, _, err := Current(ctx, b.reader, b.kind, subject, b.parse)
	return d, err
}

// Faults is how many subjects have a newer document that cannot be understood.
func (b *Book[T]) Faults() int { return len(b.current.Load().faults) }

// Len is how many subjects have a document.
func (b *Book[T]) Len() int { return len(b.current.Load().documents) }

// Follow takes in a batch of changes: documents among them are read anew.
func (b *Book[T]) Follow(ctx context.Context, batch change.Batch) error {
	if !batch.Complete {
		documents, faults, err := Documents(ctx, b.reader, b.kind, b.parse)
		if err != nil {
			return err
		}
		next := &pages[T]{batch.Seq, map[string]Document[T]{}, map[string]error{}}
		for subject, d := range documents {
			b.put(next, subject, d, faults[subject])
		}
		b.current.Store(next)
		return nil
	}
	old := b.current.Load()
	next := &pages[T]{batch.Seq, old.documents, old.faults}
	changed := false
	for name := range batch.Subjects {
		subject, ok := strings.CutPrefix(name, b.kind.Subject(""))
		if !ok {
			continue
		}
		d, fault, err := Current(ctx, b.reader, b.kind, subject, b.parse)
		if err != nil {
			return err
		}
		if !changed {
			next.documents, next.faults, changed = maps.Clone(old.documents), maps.Clone(old.faults), true
		}
		b.put(next, subject, d, fault)
	}
	b.current.Store(next)
	return nil
}

// Advance notes that nothing has changed up to a change, by the word of somebody else
// than the database.
func (b *Book[T]) Advance(seq int64) {
	for {
		now := b.current.Load()
		if now.seq >= seq || b.current.CompareAndSwap(now, &pages[T]{seq, now.documents, now.faults}) {
			return
		}
	}
}

// put notes a document; if not one version can be understood, the one that was in
// force until now stays so.
func (b *Book[T]) put(p *pages[T], subject string, d Document[T], fault error) {
	if d.Version == 0 {
		d = b.current.Load().documents[subject]
	}
	p.documents[subject] = d
	delete(p.faults, subject)
	if fault != nil {
		p.faults[subject] = fault
		b.log.Error("a document cannot be understood; the last good one stays in force", "error", fault, "in_force", d.Version)
	}
}

// Rulebook answers which bounds apply to the keys of a workspace.
type Rulebook struct{ *Book[Rules] }

// NewRulebook makes a rulebook without rules; see NewBook.
func NewRulebook(reader sqlx.ExtContext, held func(context.Context) bool, log *slog.Logger) *Rulebook {
	return &Rulebook{NewBook(KindKeys, ParseRules, reader, held, log)}
}

// Bounds are what applies in a workspace, as of the change with that number or later.
// A key's record must not meet rules that are older than it is: it may carry the
// generation that newer rules gave it, and a token by the old ones would stand.
func (r *Rulebook) Bounds(ctx context.Context, in workspace.ID, since int64) (Bounds, error) {
	if rules, ok := r.inMemory(ctx, since); ok {
		return Combine(rules[Organization].Value, rules[string(in)].Value), nil
	}
	organization, err := r.read(ctx, Organization)
	if err != nil {
		return Bounds{}, fmt.Errorf("policy of the organization: %w", err)
	}
	own, err := r.read(ctx, string(in))
	if err != nil {
		return Bounds{}, fmt.Errorf("policy of %s: %w", in, err)
	}
	return Combine(organization.Value, own.Value), nil
}
