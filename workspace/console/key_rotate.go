package console

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// grace is a time for which the old secret may work beside the new one.
type grace struct {
	Seconds int64
	Text    string
	Until   string // empty: it stops at once
	Why     string // it cannot be chosen; empty: it can
	Chosen  bool
}

// graces are the times that are offered. usualGrace is what is chosen before anybody
// does, or else the longest below it that is possible.
var graces = []struct {
	time time.Duration
	text string
}{{0, "Immediately"}, {time.Hour, "1 hour"}, {day, "24 hours"}, {7 * day, "7 days"}}

const usualGrace = day

type rotating struct {
	Key          keys.Listed
	Graces       []grace
	RevokeTokens bool
	Overlap      *handover // of a rotation that is going on
	Ended        bool
	offers
}

// graceChoices says which times are possible for a key, and chooses one: by seconds,
// or if that is empty the usual one.
func graceChoices(s manage.KeyStanding, seconds string, now time.Time) (choices []grace) {
	usual := 0
	for i, one := range graces {
		g := grace{Seconds: int64(one.time / time.Second), Text: one.text, Until: instant(now.Add(one.time)), Why: whyNoGrace(s, one.time, now)}
		if one.time == 0 {
			g.Until = ""
		}
		if g.Why == "" && one.time <= usualGrace {
			usual = i
		}
		g.Chosen = seconds == strconv.FormatInt(g.Seconds, 10)
		choices = append(choices, g)
	}
	if seconds == "" {
		choices[usual].Chosen = true
	}
	return choices
}

// whyNoGrace says why an old secret cannot go on for so long; empty: it can.
func whyNoGrace(s manage.KeyStanding, d time.Duration, now time.Time) string {
	standing, end := s.Standing(), now.Add(d)
	switch {
	case d == 0:
		return ""
	case s.Bounds.TooIdle(standing.IdleSince, now):
		return "the key was not used for longer than policy allows, so its old secret cannot go on"
	case d > s.Bounds.MaxGrace && s.Bounds.MaxGrace == 0:
		return "policy allows no overlap"
	case d > s.Bounds.MaxGrace:
		return "policy allows at most " + readDuration(s.Bounds.MaxGrace)
	case !s.ExpiresAt.IsZero() && end.After(s.ExpiresAt.Time):
		return "the key ends before that, " + relative(s.ExpiresAt.Time, now)
	}
	if last := standing.MadeAt.Add(s.Bounds.MaxLifetime); s.Bounds.MaxLifetime > 0 && end.After(last) && !s.OwnerIsAdmin {
		return "policy ends the old secret before that, " + relative(last, now)
	}
	return ""
}

func (r *request) rotatePage() (page, rotating, error) {
	s, err := r.h.Manager.KeyStanding(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, rotating{}, err
	}
	now := r.h.Manager.Time()
	data := rotating{
		Key: s.Listed, Graces: graceChoices(s, r.form.Get("grace"), now), RevokeTokens: r.form.Get("revoke_tokens") == "yes",
		Ended: r.showKey(s.Listed).Ended,
	}
	if !data.Ended {
		data.Overlap = overlapOf(s, now)
	}
	data.offers = r.offers(s.Listed, data.Ended)
	return page{template: "key_rotate", title: "Rotate " + s.Name, section: r.keySection(s.Listed), data: data}, data, nil
}

func rotateForm(r *request) (page, error) {
	p, data, err := r.rotatePage()
	if err != nil || data.Ended {
		return p, err
	}
	if data.Edit && !data.Rotate {
		return p, fmt.Errorf("%w: a personal key speaks for its user, so only they may rotate it: revoke it if it has to end", workspace.ErrForbidden)
	}
	return p, asked(data.Rotate, "api-keys:update")
}

// rotateKey gives a key a new secret and shows it, this once.
func rotateKey(r *request) (page, error) {
	p, data, err := r.rotatePage()
	if err != nil {
		return p, err
	}
	rotation, err := r.rotation()
	if err != nil {
		return p.again(err)
	}
	issued, err := r.h.Manager.RotateKey(r.ctx, r.onceCaller(), r.ws.ID, data.Key.ID, rotation)
	switch {
	case err == nil || pending(err):
		return r.reveal(issued, revealOptions{Rotated: true, Pending: err}), nil
	case errors.Is(err, manage.ErrReused):
		p.problem = &problem{Title: "This form was sent before", Items: []mistake{{
			Text: "It was sent before with another choice, and the key was rotated then. Rotate it again only if you did not store that secret.",
		}}}
		p.status = http.StatusConflict
		return p, nil
	}
	return p.again(err)
}

// rotation reads the form.
func (r *request) rotation() (manage.Rotation, error) {
	var m mistakes
	seconds, err := strconv.ParseInt(r.form.Get("grace"), 10, 32)
	if err != nil || seconds < 0 {
		m.add("grace", "Choose for how long the old secret goes on working.")
	}
	revoke := r.form.Get("revoke_tokens") == "yes"
	if revoke && seconds > 0 {
		m.add("grace", "Tokens are revoked only when the old secret stops immediately: whoever has it would get new ones at once. Choose that, or untick it.")
	}
	return manage.Rotation{Grace: time.Duration(seconds) * time.Second, RevokeTokens: revoke}, m.err()
}
