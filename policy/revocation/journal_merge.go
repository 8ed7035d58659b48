package revocation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Combine puts the entries of several journals in the order in which they were
// made, each once, and finds the highest epoch. Where two have the same number, the
// database was restored between them. ErrDamaged: two journals disagree about what
// one database had.
func Combine(journals ...*Recorded) (entries []Entry, epoch int64, err error) {
	type place struct{ epoch, seq int64 }
	type finding struct {
		Line
		path string
	}
	found := map[place]finding{}
	var all []Line
	for _, r := range journals {
		epoch = max(epoch, r.Epoch())
		for _, line := range r.Lines {
			if line.Entry == nil {
				continue
			}
			at := place{line.Epoch, line.Seq}
			before, known := found[at]
			if known && !before.same(*line.Entry) {
				return nil, 0, fmt.Errorf("%w: revocation %d of epoch %d is %s in %s, and %s in %s: they are of two databases, each of which went on from one backup; merge them one after the other, beginning with the one that you trust more",
					ErrDamaged, line.Seq, line.Epoch, before.described(), before.path, line.described(), r.Path)
			}
			if !known {
				found[at] = finding{line, r.Path}
				all = append(all, line)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Line) int { return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq)) })
	for _, line := range all {
		entries = append(entries, *line.Entry)
	}
	return entries, epoch, nil
}

// Missing is what a database lacks of the entries of journals.
type Missing struct {
	Newest  oauth.Position // of the database
	Highest int64          // number of the entries and the database
	Lost    []Entry        // their numbers are free
	Taken   []Entry        // the database has given their numbers to others
	// Expired are those that it lacks as it would had it pruned them: what they did to
	// their subjects tells.
	Expired []Entry
	Gaps    []Gap
}

// Gap is a range of numbers, both ends included, of which neither the database nor
// a journal has anything.
type Gap struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// pruneMargin is how long before its expiry an entry may be gone by another machine's
// clock.
const pruneMargin = 5 * time.Minute

// maxLead is how many revocations a database that was restored may lack. More than
// anybody makes; numbers that are further on are not its own.
const maxLead = 1_000_000_000

// within refuses to go on from a number that cannot be of a database which is at
// another: it could not be taken back.
func within(highest, newest int64) error {
	if highest-newest <= maxLead {
		return nil
	}
	return fmt.Errorf("%w: it goes up to revocation %d and the database to %d: no backup lacks %d; restore the file from a copy, or merge without it",
		ErrDamaged, highest, newest, highest-newest)
}

// Compare finds what the database lacks of entries that are in the order in which
// they were made (Combine). ErrDamaged: their numbers are not of this database.
func Compare(ctx context.Context, q sqlx.ExtContext, entries []Entry, now workspace.Time) (m Missing, err error) {
	if m.Newest, err = Newest(ctx, q); err != nil {
		return m, err
	}
	taken, present := map[int64]bool{}, map[Entry]bool{}
	for from := int64(0); ; {
		rows, err := Since(ctx, q, from, pageSize)
		if err != nil {
			return m, err
		}
		if len(rows) == 0 {
			break
		}
		from = rows[len(rows)-1].Seq
		for _, row := range rows {
			taken[row.Seq], present[row.unnumbered()] = true, true
		}
	}
	m.gaps(entries)
	// The newest first: of two with the same number, the database had that last.
	claimed := map[int64]bool{}
	for _, e := range slices.Backward(entries) {
		m.Highest = max(m.Highest, e.Seq)
		expired := e.Seq <= m.Newest.Sequence && e.ExpiresAt.Before(now.Add(pruneMargin))
		switch {
		case present[e.unnumbered()]:
		case expired && (claimed[e.Seq] || !taken[e.Seq]):
			m.Expired = append(m.Expired, e)
		case claimed[e.Seq] || taken[e.Seq]:
			m.Taken = append(m.Taken, e)
		default:
			m.Lost = append(m.Lost, e)
		}
		present[e.unnumbered()], claimed[e.Seq] = true, true
	}
	m.Highest = max(m.Highest, m.Newest.Sequence)
	if err := within(m.Highest, m.Newest.Sequence); err != nil {
		return m, err
	}
	for _, list := range [][]Entry{m.Lost, m.Taken, m.Expired} {
		slices.Reverse(list)
	}
	return m, nil
}

// unnumbered is what makes two entries the same.
func (e Entry) unnumbered() Entry {
	e.Seq, e.ExpiresAt = 0, workspace.Time{}
	return e
}

// same reports whether two entries say the same, whatever their numbers.
func (e Entry) same(other Entry) bool { return e.unnumbered() == other.unnumbered() }

// gaps finds the numbers that the database has not reached and no entry has.
func (m *Missing) gaps(entries []Entry) {
	var numbers []int64
	for _, e := range entries {
		numbers = append(numbers, e.Seq)
	}
	slices.Sort(numbers)
	next := m.Newest.Sequence + 1
	for _, n := range numbers {
		if n > next {
			m.Gaps = append(m.Gaps, Gap{next, n - 1})
		}
		next = max(next, n+1)
	}
}

// Restore writes rows with the numbers that they had before the database was
// restored, goes on after the highest number, and begins an epoch that is higher
// than those of the database and of the journals, which it returns. ErrDamaged: the
// highest number is not of this database.
func Restore(ctx context.Context, tx sqlx.ExtContext, rows []Entry, highest, epoch int64, now workspace.Time) (begun int64, err error) {
	var at oauth.Position
	// It locks the row: from here on nobody takes a number or begins an epoch.
	err = sqlx.GetContext(ctx, tx, &at.Epoch, `UPDATE revocation_counter SET seq = seq WHERE id = 1 RETURNING epoch`)
	if err == nil {
		at, err = Newest(ctx, tx)
	}
	if err != nil {
		return 0, fmt.Errorf("lock the revocation numbers: %w", err)
	}
	if err := within(highest, at.Sequence); err != nil {
		return 0, err
	}
	begun = max(at.Epoch+1, epoch+1, now.Unix())
	if _, err := tx.ExecContext(ctx, `UPDATE revocation_counter SET seq = ?, epoch = ? WHERE id = 1`, max(at.Sequence, highest), begun); err != nil {
		return 0, fmt.Errorf("begin a new epoch of the revocations: %w", err)
	}
	for chunk := range slices.Chunk(rows, batch) {
		added, err := insert(ctx, tx, chunk)
		if err == nil && added != int64(len(chunk)) {
			err = fmt.Errorf("only %d of %d revocations have numbers that are free", added, len(chunk))
		}
		if err != nil {
			return 0, err
		}
	}
	return begun, nil
}
