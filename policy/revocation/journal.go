package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// What is wrong with a journal, or with the database beside it. The error's text
// says what to do.
var (
	// ErrDamaged: the file is not as it was written.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrInUse: another process writes to it.
	ErrInUse = errors.New("the journal is in use by another process")
	// ErrForeign: it is of another installation.
	ErrForeign = errors.New("the journal is of another installation")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the journal is closed")
)

// Journal is a copy of the revocations in a file off the database's disk. A backup
// takes the database back in time, and what was revoked since is in the journal
// alone. Each process writes to one of its own. It is safe for concurrent use.
type Journal struct {
	path         string
	installation string
	log          *slog.Logger
	tries        context.Context // of the database, ended by Close
	stop         context.CancelFunc
	pause        time.Duration // a failed round is tried again after it

	// For the one round that runs.
	file  *os.File
	size  int64    // of what is on the disk for certain
	sum   chainSum // of the last line
	torn  bool     // more than size may be in the file
	write func(text []byte, at int64) error
	sync  func() error

	mu       sync.Mutex
	position oauth.Position
	last     Entry
	syncs    uint64
	failures uint64
	failing  bool
	closed   bool
	running  bool
	next     *journalRound // that has not begun
	retry    *time.Timer
	rounds   sync.WaitGroup
}

// journalRound writes down what is new, for all who asked before it began.
type journalRound struct {
	reader sqlx.ExtContext
	done   chan struct{}
	err    error
}

const (
	journalPatience = 10 * time.Second // for the database, in one round
	journalPause    = 5 * time.Second
)

// OpenJournal opens the journal in the file at path and keeps every other process
// off it until Close. It makes the file, not its directory, which must not be
// writable by everybody. installation names the one that the revocations are of.
// Half a line that a crash left at the end is cut off; any other damage is
// ErrDamaged, with the line.
func OpenJournal(path, installation string, log *slog.Logger) (*Journal, error) {
	file, err := openLocked(path)
	if err != nil {
		return nil, err
	}
	j := &Journal{path: path, installation: installation, log: log, pause: journalPause}
	j.use(file)
	if err := j.load(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	j.tries, j.stop = context.WithCancel(context.Background())
	return j, nil
}

// use makes a file the one that is written to.
func (j *Journal) use(file *os.File) {
	j.file = file
	j.write = func(text []byte, at int64) error {
		_, err := file.WriteAt(text, at)
		return err
	}
	j.sync = file.Sync
}

// load reads the file and leaves it as something that can be continued.
func (j *Journal) load() error {
	text, err := os.ReadFile(j.path)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	beginning := journalHeader(j.installation)
	if len(text) < len(beginning) && string(text) == beginning[:len(text)] { // new, or a crash made it so
		text = []byte(beginning)
		if err := errors.Join(j.write(text, 0), j.sync(), syncDirectory(j.path)); err != nil {
			return fmt.Errorf("begin the journal %s: %w", j.path, err)
		}
	}
	c, err := parseJournal(j.path, text)
	switch {
	case err != nil:
		return err
	case c.Installation != j.installation:
		return fmt.Errorf("%w: %s was begun by %s, and this one is %s: configure the file of this installation, or another path for a new one",
			ErrForeign, j.path, c.Installation, j.installation)
	}
	j.size, j.sum, j.position, j.last = c.size, c.sum, c.Position, c.last
	if c.unended {
		text = append(text, '\n')
		if err := errors.Join(j.write([]byte("\n"), j.size-1), j.sync()); err != nil {
			return fmt.Errorf("end the last line of the journal %s: %w", j.path, err)
		}
	}
	if torn := int64(len(text)) - j.size; torn > 0 {
		j.log.Warn("half a line at the end of the journal of revocations was cut off: a crash left it there", "journal", j.path, "bytes", torn)
		j.torn = true
		return j.cut()
	}
	return nil
}

// Path is where the file is.
func (j *Journal) Path() string { return j.path }

// Last is how far the journal is, and its newest entry; both are zero when it has
// none.
func (j *Journal) Last() (oauth.Position, Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.position, j.last
}

// Failures is how often what is new could not be written down.
func (j *Journal) Failures() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failures
}

// Syncs is how often the disk was waited for.
func (j *Journal) Syncs() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.syncs
}

// CatchUp appends everything that is committed and that the journal lacks, and
// returns when it is on the disk. Those who call it at the same time share the
// work. When ctx ends it returns its error, and the work goes on. An error means
// that the journal may lack something; it is tried again by itself.
func (j *Journal) CatchUp(ctx context.Context, q sqlx.ExtContext) error {
	r := j.join(q)
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the journal of revocations: %w", ctx.Err())
	}
}

// Hurry begins to catch up and does not wait for it.
func (j *Journal) Hurry(q sqlx.ExtContext) { j.join(q) }

// join is the next round that begins: one that runs already may have read the
// database before the caller's change was there.
func (j *Journal) join(q sqlx.ExtContext) *journalRound {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next != nil {
		return j.next
	}
	r := &journalRound{reader: q, done: make(chan struct{})}
	if j.closed {
		r.err = ErrClosed
		close(r.done)
		return r
	}
	j.next = r
	if !j.running {
		j.running = true
		j.rounds.Go(j.run)
	}
	return r
}

// run works off rounds until there is none.
func (j *Journal) run() {
	for {
		j.mu.Lock()
		r := j.next
		j.next, j.running = nil, r != nil
		j.mu.Unlock()
		if r == nil {
			return
		}
		r.err = j.catchUp(r.reader)
		j.note(r)
		close(r.done)
	}
}

// note counts a round that failed, says so once, and sees to another one.
func (j *Journal) note(r *journalRound) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.err == nil {
		if j.failing {
			j.log.Info("the journal of revocations is complete again", "journal", j.path)
		}
		j.failing = false
		return
	}
	j.failures++
	if !j.failing {
		j.log.Error("cannot write down the revocations; trying again", "journal", j.path, "error", r.err)
	}
	j.failing = true
	if !j.closed {
		j.stopRetry()
		j.retry = time.AfterFunc(j.pause, func() { j.join(r.reader) })
	}
}

// stopRetry forgets about a further round. Call it with mu held.
func (j *Journal) stopRetry() {
	if j.retry != nil {
		j.retry.Stop()
	}
}

// catchUp reads what is new and appends it. Of a new epoch it looks at all that the
// database has, since what is older may be other than in the epoch before.
func (j *Journal) catchUp(q sqlx.ExtContext) error {
	ctx, cancel := context.WithTimeout(j.tries, journalPatience)
	defer cancel()
	newest, err := Newest(ctx, q)
	if err != nil {
		return err
	}
	position, _ := j.Last()
	if newest.Epoch < position.Epoch || newest.Sequence < position.Sequence {
		return j.ahead(newest)
	}
	if newest == position {
		return nil
	}
	if err := j.stillThere(); err != nil {
		return err
	}
	lines, err := j.lacks(ctx, q, newest.Epoch)
	if err != nil {
		return err
	}
	if err := j.append(lines); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// Also where nothing was left to write down: what expired long ago is pruned.
	j.position.Sequence = max(j.position.Sequence, newest.Sequence)
	return nil
}

// lacks is what has to be appended in that epoch.
func (j *Journal) lacks(ctx context.Context, q sqlx.ExtContext, epoch int64) (lines []Line, err error) {
	position, _ := j.Last()
	from, known := position.Sequence, map[Entry]bool{}
	if epoch > position.Epoch {
		entries, err := j.Entries()
		if err != nil {
			return nil, err
		}
		from = 0
		for _, e := range entries {
			known[e] = true
		}
	}
	for {
		entries, err := Since(ctx, q, from, pageSize)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		from = entries[len(entries)-1].Seq
		for _, e := range entries {
			if !known[e] {
				lines = append(lines, Line{epoch, &e})
			}
		}
	}
	if epoch > position.Epoch {
		lines = append(lines, Line{Epoch: epoch})
	}
	return lines, nil
}

// append writes lines and waits for the disk. After an error the file is as it was,
// as soon as that can be done.
func (j *Journal) append(lines []Line) error {
	if len(lines) == 0 {
		return nil
	}
	if err := j.cut(); err != nil {
		return err
	}
	text, last, err := render(lines, j.sum)
	if err != nil {
		return err
	}
	j.torn = true
	err = j.write(text, j.size)
	if err == nil {
		err = j.sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("append to the journal %s: %w", j.path, err), j.cut())
	}
	j.torn, j.size, j.sum = false, j.size+int64(len(text)), last
	j.mu.Lock()
	defer j.mu.Unlock()
	j.syncs++
	for _, line := range lines {
		j.position, j.last = line.after(j.position, j.last)
	}
	return nil
}

// cut takes away what may be in the file behind what is whole.
func (j *Journal) cut() error {
	if !j.torn {
		return nil
	}
	if err := errors.Join(j.file.Truncate(j.size), j.sync()); err != nil {
		return fmt.Errorf("cut what is not whole off the journal %s: %w", j.path, err)
	}
	j.torn = false
	return nil
}

// stillThere refuses to write to a file that nobody could read afterwards.
func (j *Journal) stillThere() error {
	if same, err := isAt(j.file, j.path); err != nil || !same {
		return fmt.Errorf("the journal %s was moved, replaced or deleted while it was in use: put it back, or restart to begin a new one", j.path)
	}
	return nil
}

// Entries reads all entries, in the order in which they were written. Two of them
// have the same number if the database was restored and has given it again.
func (j *Journal) Entries() ([]Entry, error) {
	recorded, err := ReadJournal(j.path)
	if err != nil {
		return nil, err
	}
	return recorded.Entries(), nil
}

// Check compares the journal with the database. An error that wraps ErrBackwards
// means that the database has lost revocations: it was restored from a backup.
func (j *Journal) Check(ctx context.Context, q sqlx.ExtContext) error {
	newest, err := Newest(ctx, q)
	if err != nil {
		return err
	}
	position, last := j.Last()
	if newest.Epoch < position.Epoch || newest.Sequence < position.Sequence {
		return j.ahead(newest)
	}
	stored, err := Find(ctx, q, last.Seq)
	switch {
	case errors.Is(err, workspace.ErrNotFound): // it has none, or that expired long ago
		return nil
	case err != nil || stored.same(last):
		return err
	}
	others, err := Of(ctx, q, last.Kind, last.SubjectID)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.same(last) { // under another number since a merge
			return nil
		}
	}
	return fmt.Errorf("%w: revocation %d is %s in the database, and %s in the journal %s",
		ErrBackwards, last.Seq, stored.described(), last.described(), j.path)
}

// ahead says that the journal knows more than the database.
func (j *Journal) ahead(newest oauth.Position) error {
	position, _ := j.Last()
	return fmt.Errorf("%w: the database is at revocation %d of epoch %d, and the journal %s at %d of epoch %d",
		ErrBackwards, newest.Sequence, newest.Epoch, j.path, position.Sequence, position.Epoch)
}

// Close ends what runs and lets others open the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closed = true
	j.stopRetry()
	j.mu.Unlock()
	j.stop()
	j.rounds.Wait()
	return j.file.Close()
}
