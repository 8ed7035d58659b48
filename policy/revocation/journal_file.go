package revocation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// A journal is lines of JSON. The first names the installation. Each of the others
// ends in a checksum over itself and the one before, so that lines which were
// changed, removed or swapped show.

const (
	journalName    = "tokenbooth revocations"
	journalVersion = 1
	journalKept    = 30 * 24 * time.Hour // an entry stays for so long after it has expired
)

// Line is a line of a journal: an entry that was written down in an epoch; without
// an entry, that everything which the database had in that epoch is above it.
type Line struct {
	Epoch int64 `json:"epoch"`
	*Entry
}

// after is how far a journal is with a line more, and its newest entry.
func (l Line) after(p oauth.Position, last Entry) (oauth.Position, Entry) {
	if l.Entry == nil {
		p.Epoch = max(p.Epoch, l.Epoch)
		return p, last
	}
	p.Sequence = max(p.Sequence, l.Seq)
	if l.Seq >= last.Seq {
		last = *l.Entry
	}
	return p, last
}

// described says what was denied and when, for people.
func (e Entry) described() string {
	return fmt.Sprintf("that of %s %s to generation %d at %s", e.Kind, e.SubjectID, e.Generation, e.At.Format(time.RFC3339Nano))
}

// Recorded is what a journal has.
type Recorded struct {
	Path         string
	Installation string // empty: nothing was ever written to it
	Position     oauth.Position
	Lines        []Line

	last    Entry
	sum     chainSum
	size    int64 // of what is whole
	unended bool  // what is whole lacks its last end of a line
}

// Entries are all entries, in the order in which they were written.
func (r *Recorded) Entries() []Entry {
	var entries []Entry
	for _, line := range r.Lines {
		if line.Entry != nil {
			entries = append(entries, *line.Entry)
		}
	}
	return entries
}

// Epoch is the highest epoch that it tells of.
func (r *Recorded) Epoch() (epoch int64) {
	for _, line := range r.Lines {
		epoch = max(epoch, line.Epoch)
	}
	return epoch
}

// ReadJournal reads a journal, which a server may write to meanwhile: half a line at
// its end is no error. ErrDamaged if anything else is wrong.
func ReadJournal(path string) (*Recorded, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(text) == 0 {
		return &Recorded{Path: path}, nil
	}
	return parseJournal(path, text)
}

// chainSum is a checksum of a line and all before it.
type chainSum [16]byte

func (s chainSum) then(text []byte) (next chainSum) {
	h := sha256.Sum256(append(s[:], text...))
	copy(next[:], h[:])
	return next
}

type journalHead struct {
	Journal      string `json:"journal"`
	Version      int    `json:"version"`
	Installation string `json:"installation"`
}

// journalHeader is the first line.
func journalHeader(installation string) string {
	text, _ := json.Marshal(journalHead{journalName, journalVersion, installation}) // strings and a number
	return string(text) + "\n"
}

// render writes lines that follow one with that checksum. It returns the last.
func render(lines []Line, before chainSum) (text []byte, last chainSum, err error) {
	var out bytes.Buffer
	for _, line := range lines {
		object, err := json.Marshal(line)
		if err != nil {
			return nil, before, fmt.Errorf("journal: %w", err)
		}
		before = before.then(object)
		fmt.Fprintf(&out, `%s%s%x%s`, object[:len(object)-1], sumBefore, before, sumAfter+"\n")
	}
	return out.Bytes(), before, nil
}

// What stands around the checksum.
const (
	sumBefore = `,"sum":"`
	sumAfter  = `"}`
	sumLength = len(sumBefore) + 2*len(chainSum{}) + len(sumAfter)
)

var (
	errSum  = errors.New("its checksum is wrong: it was changed, or a line before it is missing or in another place")
	errForm = errors.New("it is no line of a journal")
)

// parseLine reads a line that follows one with that checksum.
func parseLine(text []byte, before chainSum) (line Line, next chainSum, err error) {
	split := len(text) - sumLength
	if split < 1 || !bytes.HasPrefix(text[split:], []byte(sumBefore)) || !bytes.HasSuffix(text, []byte(sumAfter)) {
		return line, next, errForm
	}
	object := append(bytes.Clone(text[:split]), '}')
	next = before.then(object)
	if string(text[split+len(sumBefore):len(text)-len(sumAfter)]) != hex.EncodeToString(next[:]) {
		return line, next, errSum
	}
	if err := json.Unmarshal(object, &line); err != nil {
		return line, next, fmt.Errorf("%w: %w", errForm, err)
	}
	return line, next, line.check()
}

// maxNumber is more than anybody counts to, and what every JSON parser and database
// takes as it is. Numbers never go back, so that one line with a greater one would be
// the end of all revoking.
const maxNumber = 1 << 53

// check refuses what no database has had. A checksum does not: everybody can make one.
func (l Line) check() error {
	if l.Epoch < 1 || l.Epoch > maxNumber {
		return fmt.Errorf("%w: its epoch is not between 1 and 2^53", errForm)
	}
	if l.Entry == nil {
		return nil
	}
	switch {
	case l.Seq < 1 || l.Seq > maxNumber:
		return fmt.Errorf("%w: its seq is not between 1 and 2^53", errForm)
	case l.Generation < 0 || l.Generation > maxNumber:
		return fmt.Errorf("%w: its generation is not between 0 and 2^53", errForm)
	case !slices.Contains(kinds, l.Kind):
		return fmt.Errorf("%w: its kind is not one that this binary knows", errForm)
	case !slices.Contains(causes, l.Cause):
		return fmt.Errorf("%w: its cause is not one that this binary knows", errForm)
	}
	return nil
}

var (
	kinds  = []oauth.Revocable{oauth.RevocableToken, oauth.RevocableKey, oauth.RevocableSubject, oauth.RevocableWorkspace, oauth.RevocableSigningKey}
	causes = []Cause{Revoked, Disabled, Removed, Suspended, Deleted, Changed, ""} // the last: of rows that are older than causes
)

// parseJournal reads a journal up to half a line at its end.
func parseJournal(path string, text []byte) (*Recorded, error) {
	first, rest, whole := bytes.Cut(text, []byte("\n"))
	var head journalHead
	if err := json.Unmarshal(first, &head); err != nil || !whole || head.Journal != journalName {
		return nil, fmt.Errorf("%w: line 1 of %s does not begin a journal of revocations: restore it from a copy, or configure another path", ErrDamaged, path)
	}
	if head.Version > journalVersion {
		return nil, fmt.Errorf("the journal %s has version %d, and this binary knows %d: use the binary that wrote it", path, head.Version, journalVersion)
	}
	if string(first)+"\n" != journalHeader(head.Installation) {
		return nil, damagedAt(path, 1, errors.New("it is not as it was written"))
	}
	r := &Recorded{Path: path, Installation: head.Installation, sum: chainSum{}.then(first), size: int64(len(first) + 1)}
	for number := 2; len(rest) > 0; number++ {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		parsed, next, err := parseLine(line, r.sum)
		switch {
		case err == nil:
			r.unended = !whole
		case whole:
			return nil, damagedAt(path, number, err)
		default:
			// A crash leaves the beginning of a line, never more than a line.
			if _, _, err := parseLine(line[:len(line)-1], r.sum); err == nil {
				return nil, damagedAt(path, number, errors.New("it has no end"))
			}
			return r, nil
		}
		r.Lines = append(r.Lines, parsed)
		r.Position, r.last = parsed.after(r.Position, r.last)
		r.sum, r.size, rest = next, r.size+int64(len(line)+1), after
	}
	return r, nil
}

func damagedAt(path string, number int, cause error) error {
	return fmt.Errorf("%w: line %d of %s: %w; restore the file from a copy, or move it away and go on with a new one, which begins with what the database has",
		ErrDamaged, number, path, cause)
}

// Compact drops what expired more than 30 days ago, but for the newest entry, by
// putting a new file in the place of the old one. Call it once the database was
// found to have everything (Check), and before anything else is done with it.
func (j *Journal) Compact(now time.Time) error {
	recorded, err := ReadJournal(j.path)
	if err != nil {
		return err
	}
	lines := recorded.lasting(workspace.At(now.Add(-journalKept)))
	if len(lines) == len(recorded.Lines) {
		return nil
	}
	first := journalHeader(j.installation)
	text, last, err := render(lines, chainSum{}.then([]byte(first[:len(first)-1])))
	if err != nil {
		return err
	}
	file, err := replaceJournal(j.path, append([]byte(first), text...))
	if err != nil {
		return fmt.Errorf("compact the journal %s: %w", j.path, err)
	}
	err = j.file.Close()
	j.use(file)
	j.size, j.sum = int64(len(first)+len(text)), last
	return err
}

// lasting are the lines that do not go, and the last epoch that was complete.
func (r *Recorded) lasting(since workspace.Time) (lines []Line) {
	for _, line := range r.Lines {
		if line.Entry != nil && (!line.ExpiresAt.Before(since.Time) || *line.Entry == r.last) {
			lines = append(lines, line)
		}
	}
	if r.Position.Epoch > 0 {
		lines = append(lines, Line{Epoch: r.Position.Epoch})
	}
	return lines
}
