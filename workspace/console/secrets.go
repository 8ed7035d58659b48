package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// shownSecret is a secret of a key, as far as it can be told.
type shownSecret struct {
	keys.ListedSecret
	Start string // of its text
	State string // current, old or ended
	Kind  string // of its pill
}

func showSecrets(k keys.Listed, ended bool, now time.Time) (shown []shownSecret) {
	for i, s := range k.Secrets {
		one := shownSecret{s, keys.Start(k.ID, k.Kind(), s.Hint), "Current", "ok"}
		switch {
		case ended, !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(now):
			one.State, one.Kind = "Ended", "off"
		case i > 0:
			one.State, one.Kind = "Old", "accent"
		}
		shown = append(shown, one)
	}
	return shown
}

// handover is the time in which two secrets of a key work.
type handover struct {
	Old           keys.ListedSecret
	Until         string
	Passed, Whole int64 // seconds, of the overlap
	StillUsed     bool  // the old one was used since there is a new one
	NewUsed       workspace.Time
	Extend        bool // there is room for more

	limit time.Time
	why   string
}

// overlapOf finds the overlap of a key that is being rotated; nil: it is not.
func overlapOf(s manage.KeyStanding, now time.Time) *handover {
	until := rotatingUntil(s.Listed, now)
	if until.IsZero() {
		return nil
	}
	old := s.Secrets[slices.IndexFunc(s.Secrets, func(one keys.ListedSecret) bool { return one.ExpiresAt == until })]
	began := s.Secrets[0].CreatedAt
	o := &handover{
		Old: old, Until: instant(until.Time), Passed: int64(now.Sub(began.Time) / time.Second), Whole: int64(until.Sub(began.Time) / time.Second),
		StillUsed: old.LastUsedAt.After(began.Time), NewUsed: s.Secrets[0].LastUsedAt,
	}
	o.limit, o.why = manage.SecretLimit(&s.Bounds, &s.Listed, old)
	o.Extend = o.limit.After(until.Time)
	return o
}

// endSecret ends an old secret before its time: asked with GET, done with POST.
func endSecret(r *request) (page, error) {
	k, err := r.h.Manager.Key(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, err
	}
	secret := r.Param("secret")
	i := slices.IndexFunc(k.Secrets, func(s keys.ListedSecret) bool { return s.ID == secret })
	if i < 0 {
		return page{}, fmt.Errorf("secret %s: %w", secret, workspace.ErrNotFound)
	}
	a := asking{
		Lead: "The old secret " + keys.Start(k.ID, k.Kind(), k.Secrets[i].Hint) + "… stops working at once, everywhere.", Button: "End the old secret", Danger: true,
		Back: r.keyURL(k.ID), BackText: k.Name,
		Effects: []string{
			r.lastUse(k.Secrets[i], "It"),
			"Whoever still sends it is refused, and told that it was replaced.",
			"The new secret goes on working, and so do the tokens that were issued already.",
		},
	}
	return r.answered("End the old secret of "+k.Name, r.keySection(k), a, func() error {
		return r.h.Manager.EndSecret(r.ctx, r.by, r.ws.ID, k.ID, secret)
	}, a.Back, "secret-ended")
}

// lastUse says in a sentence when and by whom a secret was used last.
func (r *request) lastUse(s keys.ListedSecret, what string) string {
	if s.LastUsedAt.IsZero() {
		return what + " was never used."
	}
	text := what + " was last used " + relative(s.LastUsedAt.Time, r.h.Manager.Time())
	if from := usedFrom(s); from != "" {
		text += " from " + from
	}
	return text + "."
}

// From is from where and by what the secret was used last.
func (s shownSecret) From() string { return usedFrom(s.ListedSecret) }

// From is from where and by what the old secret was used last.
func (h handover) From() string { return usedFrom(h.Old) }

// usedFrom is from where and by what a secret was used last.
func usedFrom(s keys.ListedSecret) string {
	return shownKey{LastAddress: s.LastUsedAddress, LastAgent: s.LastUsedAgent}.LastFrom()
}

// extension is a later end that an old secret can have.
type extension struct {
	Until   int64 // seconds since 1970: sent again, the form means the same instant
	Text    string
	At      string
	Problem string // why it cannot; empty: it can
}

type extending struct {
	Key     keys.Listed
	Overlap *handover
	Choices []extension
}

// extendSecret lets an old secret work for longer: the form with GET, done with POST.
func extendSecret(r *request) (page, error) {
	s, err := r.h.Manager.KeyStanding(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, err
	}
	o := overlapOf(s, r.h.Manager.Time())
	if o == nil || o.Old.ID != r.Param("secret") {
		return page{}, fmt.Errorf("%w: the key has no old secret that works: whoever needs more time gets it by rotating the key again", workspace.ErrConflict)
	}
	p := page{template: "secret_extend", title: "Give the old secret of " + s.Name + " more time", section: r.keySection(s.Listed), data: extending{s.Listed, o, extensions(o)}}
	if r.Request().Method != http.MethodPost {
		return p, nil
	}
	var m mistakes
	until, err := strconv.ParseInt(r.form.Get("until"), 10, 64)
	if err != nil {
		m.add("until", "Choose how much more time it gets.")
		return p.again(m.err())
	}
	err = r.h.Manager.ExtendSecret(r.ctx, r.by, r.ws.ID, s.ID, o.Old.ID, time.Unix(until, 0))
	if err != nil && !pending(err) {
		return p.again(err)
	}
	return done(err, r.keyURL(s.ID), "secret-extended"), nil
}

// extensions are the later ends that are offered, and the latest that is allowed.
func extensions(o *handover) (choices []extension) {
	end := o.Old.ExpiresAt.Time
	for _, more := range graces[1:] {
		at := end.Add(more.time).Truncate(time.Second)
		c := extension{Until: at.Unix(), Text: more.text + " more", At: instant(at)}
		if at.After(o.limit) {
			c.Problem = o.why
		}
		choices = append(choices, c)
	}
	last := o.limit.Truncate(time.Second)
	if last.After(end) {
		choices = append(choices, extension{Until: last.Unix(), Text: "As long as possible", At: instant(last)})
	}
	return choices
}
