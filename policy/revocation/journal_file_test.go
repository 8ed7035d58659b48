package revocation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Whatever bit is another, and whichever line is elsewhere, missing or there twice,
// it is found.
func TestJournalDamage(t *testing.T) {
	db := schematest.SQLite(t)
	path := journalPath(t)
	j := openedJournal(t, path)
	empty, err := os.ReadFile(path)
	check(t, err)
	revokeKeys(t, db, "a", "b", "c")
	check(t, j.CatchUp(t.Context(), db.Reader()))
	check(t, j.Close())
	whole, err := os.ReadFile(path)
	check(t, err)
	found := func(text []byte) error {
		check(t, os.WriteFile(path, text, 0o600))
		j, err := revocation.OpenJournal(path, "house", slog.New(slog.DiscardHandler))
		if err == nil {
			check(t, j.Close())
		}
		return err
	}
	check(t, found(whole))
	flipped := func(text []byte, bit int) []byte {
		damaged := bytes.Clone(text)
		damaged[bit/8] ^= 1 << (bit % 8)
		return damaged
	}
	for bit := range 8 * len(whole) {
		if _, err := revocation.ParseJournal(path, flipped(whole, bit)); err == nil {
			t.Errorf("bit %d of byte %d is another, and it is read", bit%8, bit/8)
		}
	}
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n')
	for text, from := range map[string]int{string(empty): 0, string(whole): 8 * last} {
		for bit := from; bit < 8*len(text); bit++ {
			if damaged := flipped([]byte(text), bit); found(damaged) == nil {
				t.Errorf("bit %d of byte %d of %d is another, and it opens:\n%s", bit%8, bit/8, len(text), damaged)
			}
		}
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for i := 1; i < 4; i++ {
		swapped, twice, missing := slices.Clone(lines), slices.Insert(slices.Clone(lines), i, lines[i]), slices.Delete(slices.Clone(lines), i, i+1)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		for what, changed := range map[string][][]byte{"swapped": swapped, "twice": twice, "missing": missing} {
			err := found(bytes.Join(changed, nil))
			line := i + 1
			if what == "twice" {
				line++
			}
			if !errors.Is(err, revocation.ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("line %d of %s", line, path)) {
				t.Errorf("line %d is %s: %v", i+1, what, err)
			}
		}
	}
}

// What is no journal of this installation, or could be anybody's, is refused with
// what to do.
func TestOpenJournalRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(text), mode))
		check(t, os.Chmod(path, mode))
		return path
	}
	open := filepath.Join(dir, "open")
	check(t, os.Mkdir(open, 0o700))
	check(t, os.Chmod(open, 0o777))
	mine := filepath.Join(dir, "mine")
	openedJournal(t, mine)
	for _, c := range []struct {
		path, says string
		kind       error
	}{
		{filepath.Join(dir, "none", "j"), "create it, on another disk", os.ErrNotExist},
		{filepath.Join(open, "j"), "chmod o-w " + open, nil},
		{dir, "is not a regular file", nil},
		{file("shared", "", 0o620), "chmod 600", nil},
		{file("notes", "a note", 0o600), "line 1", revocation.ErrDamaged},
		{file("foreign", `{"journal":"tokenbooth revocations","version":1,"installation":"other"}`+"\n", 0o600), "begun by other, and this one is house", revocation.ErrForeign},
		{file("newer", `{"journal":"tokenbooth revocations","version":2,"installation":"house"}`+"\n", 0o600), "has version 2, and this binary knows 1", nil},
		{mine, "each replica needs a file of its own", revocation.ErrInUse},
	} {
		j, err := revocation.OpenJournal(c.path, "house", slog.New(slog.DiscardHandler))
		if err == nil {
			check(t, j.Close())
			t.Errorf("%s opens", c.path)
		} else if !strings.Contains(err.Error(), c.says) || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %q", c.path, err, c.says)
		}
	}
	if used, err := revocation.InUse(mine); err != nil || !used {
		t.Errorf("in use: %v, %v", used, err)
	}
	if used, err := revocation.InUse(filepath.Join(dir, "notes")); err != nil || used {
		t.Errorf("not in use: %v, %v", used, err)
	}
}

// Whoever can write to the file can make checksums too. What no database has had is
// refused: numbers only grow, so that a huge one could never be taken back.
func TestJournalRefusesWhatCannotBe(t *testing.T) {
	path := journalPath(t)
	check(t, openedJournal(t, path).Close())
	head, err := os.ReadFile(path)
	check(t, err)
	head = head[:bytes.IndexByte(head, '\n')+1]
	for name, c := range map[string]struct {
		change func(*revocation.Line)
		says   string
	}{
		"nothing":              {func(*revocation.Line) {}, ""},
		"the highest numbers":  {func(l *revocation.Line) { l.Epoch, l.Seq, l.Generation = 1<<53, 1<<53, 1<<53 }, ""},
		"a row without cause":  {func(l *revocation.Line) { l.Cause = "" }, ""},
		"an epoch alone":       {func(l *revocation.Line) { l.Entry = nil }, ""},
		"epoch 0":              {func(l *revocation.Line) { l.Epoch = 0 }, "epoch"},
		"a huge epoch":         {func(l *revocation.Line) { l.Epoch = 1<<53 + 1 }, "epoch"},
		"a huge epoch alone":   {func(l *revocation.Line) { l.Epoch, l.Entry = math.MaxInt64, nil }, "epoch"},
		"seq 0":                {func(l *revocation.Line) { l.Seq = 0 }, "seq"},
		"a huge seq":           {func(l *revocation.Line) { l.Seq = math.MaxInt64 }, "seq"},
		"a seq above":          {func(l *revocation.Line) { l.Seq = 1<<53 + 1 }, "seq"},
		"a generation below 0": {func(l *revocation.Line) { l.Generation = -1 }, "generation"},
		"a huge generation":    {func(l *revocation.Line) { l.Generation = 1<<53 + 1 }, "generation"},
		"an unknown kind":      {func(l *revocation.Line) { l.Kind = "robot" }, "kind"},
		"no kind":              {func(l *revocation.Line) { l.Kind = "" }, "kind"},
		"an unknown cause":     {func(l *revocation.Line) { l.Cause = "bored" }, "cause"},
	} {
		line := revocation.Line{Epoch: 3, Entry: &revocation.Entry{Seq: 7, Kind: oauth.RevocableKey, SubjectID: "a", Generation: 2, Cause: revocation.Revoked, At: noon, ExpiresAt: noon}}
		c.change(&line)
		text, err := revocation.RenderAfter(head, line)
		check(t, err)
		switch _, err := revocation.ParseJournal(path, text); {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says != "" && (!errors.Is(err, revocation.ErrDamaged) || !strings.Contains(err.Error(), "its "+c.says+" is not") || !strings.Contains(err.Error(), "line 2 of ")):
			t.Errorf("%s: %v, want one that speaks of %s", name, err, c.says)
		}
	}
}

// Numbers that are far beyond those of the database are not its own, and change
// nothing.
func TestRestoreRefusesNumbersOfOthers(t *testing.T) {
	const most = 1_000_000_000
	db := schematest.SQLite(t)
	revokeKeys(t, db, "a", "b")
	restore := func(highest int64) error {
		entry := revocation.Entry{Seq: highest, Kind: oauth.RevocableKey, SubjectID: "z", Generation: 2, Cause: revocation.Revoked, At: noon, ExpiresAt: workspace.At(noon.Add(time.Hour))}
		_, err := revocation.Compare(t.Context(), db.Reader(), []revocation.Entry{entry}, noon)
		errRestore := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			_, err := revocation.Restore(ctx, tx, []revocation.Entry{entry}, highest, 1, noon)
			return err
		})
		if (err == nil) != (errRestore == nil) {
			t.Errorf("%d: compared: %v, restored: %v", highest, err, errRestore)
		}
		return errors.Join(err, errRestore)
	}
	before, err := revocation.Newest(t.Context(), db.Reader())
	check(t, err)
	for _, highest := range []int64{2 + most + 1, 1 << 53} {
		if err := restore(highest); !errors.Is(err, revocation.ErrDamaged) || !strings.Contains(err.Error(), "and the database to 2") {
			t.Errorf("%d: %v", highest, err)
		}
	}
	if after, err := revocation.Newest(t.Context(), db.Reader()); err != nil || after != before {
		t.Errorf("the revocations went from %v to %v, %v", before, after, err)
	}
	check(t, restore(2+most))
}

// What expired long ago goes, but for the newest; the file stays this process's own
// and can be continued.
func TestCompact(t *testing.T) {
	db := schematest.SQLite(t)
	path := journalPath(t)
	j := openedJournal(t, path)
	revokeKeys(t, db, "a", "b", "c")
	alter(t, db, `UPDATE revocations SET expires_at = ? WHERE seq = 2`, workspace.At(noon.AddDate(0, 0, 2)))
	check(t, j.CatchUp(t.Context(), db.Reader()))
	check(t, j.Compact(noon.AddDate(0, 0, 29)))
	if got := subjectsOf(inFile(t, path)); got != "a b c" {
		t.Errorf("too early: the file has %s", got)
	}
	check(t, j.Compact(noon.AddDate(0, 0, 31)))
	if got := subjectsOf(inFile(t, path)); got != "b c" {
		t.Errorf("the file has %s", got)
	}
	if _, err := revocation.OpenJournal(path, "house", slog.New(slog.DiscardHandler)); !errors.Is(err, revocation.ErrInUse) {
		t.Errorf("somebody else opens the new file: %v", err)
	}
	check(t, j.Compact(noon.AddDate(1, 0, 0)))
	revokeKeys(t, db, "d")
	check(t, j.CatchUp(t.Context(), db.Reader()))
	check(t, j.Close())
	j = openedJournal(t, path)
	if at, last := j.Last(); at != (oauth.Position{Epoch: 1, Sequence: 4}) || last.SubjectID != "d" {
		t.Errorf("opened again it is at %v with %v", at, last)
	}
	if got := subjectsOf(inFile(t, path)); got != "c d" {
		t.Errorf("the file has %s", got)
	}
	left, err := filepath.Glob(path + "*")
	if err != nil || len(left) != 1 {
		t.Errorf("files: %v, %v", left, err)
	}
}

// Journals of several replicas are one; where they are of two databases, that is
// said.
func TestCombine(t *testing.T) {
	line := func(epoch, seq int64, id string) revocation.Line {
		return revocation.Line{Epoch: epoch, Entry: &revocation.Entry{Seq: seq, Kind: oauth.RevocableKey, SubjectID: id, At: noon}}
	}
	one := &revocation.Recorded{Path: "one", Lines: []revocation.Line{line(1, 1, "a"), line(1, 3, "c"), {Epoch: 4}, line(4, 3, "x")}}
	two := &revocation.Recorded{Path: "two", Lines: []revocation.Line{line(1, 1, "a"), line(1, 2, "b"), line(1, 3, "c"), {Epoch: 6}}}
	entries, epoch, err := revocation.Combine(one, two)
	if got := subjectsOf(entries); got != "a b c x" || epoch != 6 || err != nil {
		t.Errorf("combined: %s, epoch %d, %v", got, epoch, err)
	}
	two.Lines = append(two.Lines, line(4, 3, "y"))
	_, _, err = revocation.Combine(one, two)
	if !errors.Is(err, revocation.ErrDamaged) || !strings.Contains(err.Error(), "revocation 3 of epoch 4 is that of key x") ||
		!strings.Contains(err.Error(), "in one, and that of key y to generation 0 at 2030-01-02T12:00:00Z in two") {
		t.Errorf("two that disagree: %v", err)
	}
}
