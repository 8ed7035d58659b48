package audit

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Bounds of a bundle.
const (
	bundleMax  = 100         // exchanges: reading a few of them reads no more than that
	bundleSpan = time.Minute // which also begins a bundle anew, so that it lies within any bucket of Usage
)

// bundle is a row of the database: exchanges of one batch that are alike but for what a
// record says. A busy key leaves one for a hundred of its uses, which is what keeps an
// exchange cheap; one that is seldom used leaves one each.
type bundle struct {
	Batch       int64          `db:"batch"`
	Bundle      int64          `db:"bundle"` // the position of its first in the batch
	WorkspaceID workspace.ID   `db:"workspace_id"`
	KeyID       string         `db:"key_id"`
	OwnerID     string         `db:"owner_id"`
	Action      string         `db:"action"`
	Outcome     string         `db:"outcome"`
	SinceAt     workspace.Time `db:"since_at"`
	UntilAt     workspace.Time `db:"until_at"` // included
	Count       int64          `db:"count"`    // of all its exchanges
	Records     string         `db:"records"`  // a JSON array of what appendRecord appends
}

// bundleColumns are in the order of numbers and then texts. The records come last: they
// may be long, and to what stands behind them SQLite would read through them.
const bundleColumns = `batch, bundle, since_at, until_at, count, workspace_id, key_id, owner_id, action, outcome, records`

const (
	numberColumns = 5
	textColumns   = 6
)

func (b *bundle) numbers() [numberColumns]int64 {
	return [...]int64{b.Batch, b.Bundle, b.SinceAt.UnixMicro(), b.UntilAt.UnixMicro(), b.Count}
}

func (b *bundle) texts() [textColumns]string {
	return [...]string{string(b.WorkspaceID), b.KeyID, b.OwnerID, b.Action, b.Outcome, b.Records}
}

// likeness is what the exchanges of a bundle have in common.
type likeness struct {
	workspaceID                     workspace.ID
	keyID, ownerID, action, outcome string
	span                            int64 // of the time since 1970
}

func likenessOf(e *Exchange) likeness {
	return likeness{e.WorkspaceID, e.KeyID, e.OwnerID, e.Action, e.Outcome, spanOf(e.At)}
}

// bundler puts the exchanges of a batch into bundles.
type bundler struct {
	batch []Exchange
	made  []bundling
	open  map[likeness]int
	next  []int // of each exchange, the position of the next one in its bundle; 0: none
}

// bundling is a bundle while exchanges are added to it.
type bundling struct {
	bundle
	n, last int // how many, and the position of the last
}

func newBundler(seq int64, batch []Exchange) *bundler {
	b := &bundler{batch: batch, open: map[likeness]int{}, next: make([]int, len(batch))}
	for i := range batch {
		b.add(seq, i)
	}
	return b
}

// add adds the exchange at a position.
func (b *bundler) add(seq int64, position int) {
	e := &b.batch[position]
	like := likenessOf(e)
	at, known := b.open[like]
	if !known || b.made[at].n == bundleMax {
		b.open[like] = len(b.made)
		b.made = append(b.made, bundling{n: 1, last: position, bundle: bundle{
			Batch: seq, Bundle: int64(position), WorkspaceID: e.WorkspaceID, KeyID: e.KeyID, OwnerID: e.OwnerID,
			Action: e.Action, Outcome: e.Outcome, SinceAt: e.At, UntilAt: e.At, Count: e.Count,
		}})
		return
	}
	made := &b.made[at]
	b.next[made.last], made.last = position, position
	made.SinceAt, made.UntilAt = earlier(made.SinceAt, e.At), later(made.UntilAt, e.At)
	made.Count += e.Count
	made.n++
}

// encoder writes the records of a batch, with their leaves: into one text, a bundle after
// the other, since most of a batch's memory is that.
type encoder struct {
	text   []byte
	leaves [][sha256.Size]byte
	hasher leafHasher
	count  int
	pace   *pace
}

// What the encoder goes by.
const (
	typicalRecord = 300 // about how long a record is, in bytes
	betweenRests  = 16  // after how many records it looks whether to rest
)

// bundles are those that were made, in the order of their first, with the leaves of the
// exchanges, which have their IDs by now.
func (b *bundler) bundles(p *pace) ([]bundle, [][sha256.Size]byte) {
	e := encoder{text: make([]byte, 0, len(b.batch)*typicalRecord), leaves: make([][sha256.Size]byte, len(b.batch)), pace: p}
	ends := make([]int, len(b.made))
	for i := range b.made {
		b.encode(&b.made[i], &e)
		ends[i] = len(e.text)
	}
	list, all, from := make([]bundle, len(b.made)), string(e.text), 0
	for i := range list {
		list[i] = b.made[i].bundle
		list[i].Records, from = all[from:ends[i]], ends[i]
	}
	return list, e.leaves
}

// encode encodes the records of a bundle, as a JSON array.
func (b *bundler) encode(of *bundling, e *encoder) {
	e.text = append(e.text, '[')
	e.hasher.begin(&of.bundle)
	for position := int(of.Bundle); ; position = b.next[position] {
		e.add(position, &b.batch[position])
		if position == of.last {
			break
		}
		e.text = append(e.text, ',')
	}
	e.text = append(e.text, ']')
}

func (e *encoder) add(position int, exchange *Exchange) {
	r := appendRecord(e.text, int64(position), exchange)
	e.text, e.leaves[position] = r.text, e.hasher.hashRecord(&r)
	if e.count++; e.count%betweenRests == 0 {
		e.pace.rest()
	}
}

func earlier(a, b workspace.Time) workspace.Time {
	if b.Before(a.Time) {
		return b
	}
	return a
}

func later(a, b workspace.Time) workspace.Time {
	if b.After(a.Time) {
		return b
	}
	return a
}

// record is a record at the end of a text, with the places of what the exchange's leaf
// has too: an ID, a secret's ID and all from the address on.
type record struct {
	text                []byte
	position, at        int64
	id, secret, address int
}

// appendRecord appends what is an exchange's own, as a JSON array.
func appendRecord(b []byte, position int64, e *Exchange) record {
	r := record{position: position, at: e.At.UnixMicro()}
	b = strconv.AppendInt(append(b, '['), position, 10)
	b = append(strconv.AppendInt(append(b, ','), r.at, 10), ',')
	r.id = len(b)
	b = append(appendString(b, e.ID), ',')
	r.secret = len(b)
	b = append(appendString(b, e.SecretID), ',')
	r.address = len(b)
	b = appendString(b, e.Address)
	for _, text := range [...]string{e.Agent, e.RequestID, e.Detail} {
		b = appendString(append(b, ','), text)
	}
	b = strconv.AppendInt(append(b, ','), e.Count, 10)
	b = append(b, ']')
	r.text = b
	return r
}

// errRecords means that a bundle was tampered with.
var errRecords = errors.New("a bundle of exchanges is not what was recorded: run tokenbooth audit verify")

// exchanges reads the exchanges of a bundle. Its own columns hold for all of them; an
// error that wraps errRecords means that they, or the records, say something else than
// what a bundler wrote.
func (b *bundle) exchanges() ([]exchangeRow, error) {
	fail := func(why error) error {
		return fmt.Errorf("%w: bundle %d of batch %d: %w", errRecords, b.Bundle, b.Batch, why)
	}
	if !b.faithful() {
		return nil, fail(errors.New("it holds what is no text"))
	}
	var records []json.RawMessage
	if err := json.Unmarshal([]byte(b.Records), &records); err != nil {
		return nil, fail(err)
	}
	rows := make([]exchangeRow, len(records))
	for i, record := range records {
		if err := b.read(record, &rows[i]); err != nil {
			return nil, fail(err)
		}
	}
	if !b.tells(rows) {
		return rows, fail(errors.New("its columns do not tell what its records do"))
	}
	return rows, nil
}

// halfCharacter is the escape of half of a character. Nobody writes it: what is beyond
// 16 bits stands for itself. Alone it is read as U+FFFD here, and elsewhere as something else.
var halfCharacter = regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*\\u[dD][89a-fA-F]`)

// faithful reports whether the hashes can cover all that the bundle holds.
func (b *bundle) faithful() bool {
	return utf8.ValidString(string(b.WorkspaceID)+b.KeyID+b.OwnerID+b.Action+b.Outcome+b.Records) &&
		(!strings.Contains(b.Records, `\u`) || !halfCharacter.MatchString(b.Records))
}

// read reads one record.
func (b *bundle) read(record []byte, r *exchangeRow) error {
	r.Batch = b.Batch
	e := &r.Exchange
	e.WorkspaceID, e.KeyID, e.OwnerID, e.Action, e.Outcome = b.WorkspaceID, b.KeyID, b.OwnerID, b.Action, b.Outcome
	var at int64
	fields := []any{&r.Position, &at, &e.ID, &e.SecretID, &e.Address, &e.Agent, &e.RequestID, &e.Detail, &e.Count}
	want := len(fields)
	if err := json.Unmarshal(record, &fields); err != nil {
		return err
	}
	if len(fields) != want || slices.Contains(fields, nil) { // nil: null
		return fmt.Errorf("a record does not have %d fields", want)
	}
	e.At = workspace.At(time.UnixMicro(at))
	return nil
}

// tells reports whether what the bundle says of its exchanges together is so, and lies
// within one span: by that they are found and counted.
func (b *bundle) tells(rows []exchangeRow) bool {
	if len(rows) == 0 {
		return false
	}
	first, since, until, count := rows[0].Position, rows[0].At, rows[0].At, int64(0)
	for i := range rows {
		first, since, until = min(first, rows[i].Position), earlier(since, rows[i].At), later(until, rows[i].At)
		count += rows[i].Count
	}
	return first == b.Bundle && since.Equal(b.SinceAt.Time) && until.Equal(b.UntilAt.Time) && count == b.Count && spanOf(since) == spanOf(until)
}

func spanOf(at workspace.Time) int64 { return at.UnixMicro() / bundleSpan.Microseconds() }
