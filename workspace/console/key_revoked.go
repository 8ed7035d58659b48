package console

import (
	"encoding/json"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// revoked is what became of a key that was revoked.
type revoked struct {
	offers
	Key      keys.Listed
	Pending  workspace.Time // until when a replica may still issue tokens; zero: none does
	Progress progress
}

// Until is until when a replica may still issue tokens.
func (d revoked) Until() string { return instant(d.Pending.Time) }

// DeadBy is when no token of the key is good any more, whoever looks at it.
func (d revoked) DeadBy() string { return instant(d.Progress.DeadBy.Time) }

// progress is how far the verifiers are in taking in a revocation.
type progress struct {
	Text      string          `json:"text"`
	CaughtUp  int64           `json:"caught_up"`
	Known     int64           `json:"known"`
	Settled   bool            `json:"settled"` // there is nothing to wait for
	Verifiers []verifierState `json:"verifiers"`

	Dead   bool           `json:"-"` // no token is good any more, whoever looks at it
	DeadBy workspace.Time `json:"-"`
	More   int64          `json:"-"` // verifiers that are not listed
}

// verifierState is how far a verifier of the workspace is.
type verifierState struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Done bool   `json:"done"`
}

// verifiersShown is how many of them are listed, those that are behind first.
const verifiersShown = 50

// progressOf says how far the revocation of a key is.
func (r *request) progressOf(id keys.ID) (progress, error) {
	receipt, found, err := r.h.Manager.KeyReceipt(r.ctx, r.by, r.ws.ID, id)
	if err != nil || !found {
		return progress{Text: "None of its tokens is good any more.", Settled: true, Dead: true, Verifiers: []verifierState{}}, err
	}
	return newProgress(receipt), nil
}

func newProgress(r revocation.Receipt) progress {
	p := progress{
		CaughtUp: r.Own.CaughtUp + r.Others.CaughtUp, Settled: r.Settled(), Dead: r.Dead(), DeadBy: r.ExpiresAt, Verifiers: []verifierState{},
	}
	p.Known = p.CaughtUp + r.Own.Behind + r.Others.Behind
	for _, v := range r.Verifiers[:min(len(r.Verifiers), verifiersShown)] {
		p.Verifiers = append(p.Verifiers, newVerifierState(r, v))
	}
	p.More = p.Known - int64(len(p.Verifiers))
	p.Text = p.words(r.Own.Silent + r.Others.Silent)
	return p
}

// words says it in a sentence or two.
func (p progress) words(silent int64) string {
	switch {
	case p.Dead:
		return "None of its tokens is good any more."
	case p.Known == 0:
		return "No verifier reports how far it follows the revocations."
	}
	verb := " refuse its tokens."
	if p.Known == 1 {
		verb = " refuses its tokens."
	}
	text := number(p.CaughtUp) + " of " + count(p.Known, "verifier") + verb
	switch silent {
	case 0:
	case 1:
		text += " One has not reported for a while, and may have ended."
	default:
		text += " " + number(silent) + " have not reported for a while, and may have ended."
	}
	return text
}

func newVerifierState(r revocation.Receipt, v revocation.Verifier) verifierState {
	s := verifierState{Name: v.Name, Text: "Does not know of it yet", Done: r.CaughtUp(v)}
	switch {
	case s.Done:
		s.Text = "Refuses its tokens"
	case v.Silent(r.Now):
		s.Text = "Silent: last heard of " + relative(v.ReportedAt.Time, r.Now)
	}
	return s
}

// keyRevoked tells what became of a key that was revoked, as it is now.
func keyRevoked(r *request) (page, error) {
	k, err := r.h.Manager.Key(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, err
	}
	if k.RevokedAt.IsZero() {
		return seeOther(r.keyURL(k.ID)), nil
	}
	data := revoked{Key: k, offers: r.offers(k, true), Pending: r.notInForce(k.ID)}
	data.Progress, err = r.progressOf(k.ID)
	return page{template: "key_revoked", title: k.Name + " is revoked", section: r.keySection(k), data: data}, err
}

// revokedProgress tells the script how far it is.
func revokedProgress(r *request) (page, error) {
	p, err := r.progressOf(r.keyID())
	if err != nil {
		return page{}, err
	}
	content, err := json.Marshal(p)
	return page{content: content, contentType: "application/json"}, err
}
