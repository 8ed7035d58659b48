package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Head is the end of a chain at some time. Kept where those who can change the
// database cannot reach, it proves what the chain was until then.
type Head struct {
	Chain string         `db:"chain"`
	Seq   int64          `db:"seq"`
	Hash  []byte         `db:"hash"`
	At    workspace.Time `db:"at"` // of its event
}

// headLine is a head as a line of JSON.
type headLine struct {
	Chain string         `json:"chain"`
	Seq   int64          `json:"seq"`
	Hash  string         `json:"hash"`
	At    workspace.Time `json:"at"`
}

// MarshalJSON writes the hash in hex.
func (h Head) MarshalJSON() ([]byte, error) {
	return json.Marshal(headLine{h.Chain, h.Seq, hex.EncodeToString(h.Hash), h.At})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (h *Head) UnmarshalJSON(text []byte) error {
	var line headLine
	if err := json.Unmarshal(text, &line); err != nil {
		return err
	}
	hash, err := hex.DecodeString(line.Hash)
	switch {
	case err != nil:
		return fmt.Errorf("hash: %w", err)
	case line.Chain == "" || line.Seq < 1 || len(hash) != len(beginning()):
		return errors.New("it is not the head of a chain")
	}
	*h = Head{line.Chain, line.Seq, hash, line.At}
	return nil
}

// Heads reads the present head of every chain.
func Heads(ctx context.Context, q sqlx.ExtContext) ([]Head, error) {
	var heads []Head
	err := sqlx.SelectContext(ctx, q, &heads, `SELECT h.chain, h.seq, h.hash, e.at FROM audit_heads h
		LEFT JOIN audit_events e ON e.chain = h.chain AND e.seq = h.seq WHERE h.seq > 0 ORDER BY h.chain`)
	if err != nil {
		return nil, fmt.Errorf("read the heads of the audit chains: %w", err)
	}
	return heads, nil
}

// AppendHeads adds heads to a file, a line of JSON each, and returns when they are
// on the disk. Half a line that a crash left at its end goes.
func AppendHeads(path string, heads []Head) (err error) {
	if len(heads) == 0 {
		return nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("audit heads: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := cutTorn(file); err != nil {
		return fmt.Errorf("audit heads: %w", err)
	}
	var text bytes.Buffer
	for _, h := range heads {
		line, err := json.Marshal(h)
		if err != nil {
			return fmt.Errorf("audit heads: %w", err)
		}
		text.Write(append(line, '\n'))
	}
	if _, err := file.Write(text.Bytes()); err != nil {
		return fmt.Errorf("audit heads: %w", err)
	}
	return file.Sync()
}

// cutTorn removes what follows the last end of a line.
func cutTorn(file *os.File) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	tail := make([]byte, min(size, 1<<16)) // lines are far shorter
	if _, err := file.ReadAt(tail, size-int64(len(tail))); err != nil {
		return err
	}
	torn := len(tail) - 1 - bytes.LastIndexByte(tail, '\n')
	if torn == 0 {
		return nil
	}
	return file.Truncate(size - int64(torn))
}

// ReadHeads reads what AppendHeads wrote. Half a line at the end, which a crash
// leaves, is no error; any other line that is no head is one, which names it.
func ReadHeads(path string) ([]Head, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit heads: %w", err)
	}
	var heads []Head
	for number := 1; len(text) > 0; number++ {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		var h Head
		err := json.Unmarshal(line, &h)
		if err != nil && whole {
			return nil, fmt.Errorf("audit heads: %s:%d: %w", path, number, err)
		}
		if err == nil {
			heads = append(heads, h)
		}
		text = rest
	}
	return heads, nil
}
