package console

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) signingKeysRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	const path = "/organization/signing-keys"
	return []route{
		{method: get, path: path, run: listSigningKeys},
		{method: get, path: path + "/rotate", run: rotateSigningKey},
		{method: post, path: path + "/rotate", run: rotateSigningKey},
		{method: get, path: path + "/replace", run: replaceSigningKeys},
		{method: post, path: path + "/replace", run: replaceSigningKeys},
		{method: get, path: path + "/retire", run: retireSigningKey},
		{method: post, path: path + "/retire", run: retireSigningKey},
	}
}

// signingSlot is what has one key that signs, with all its keys.
type signingSlot struct {
	signing.Slot
	Keys    []signingKey // published ones, the oldest first
	Removed []signingKey // the newest first
	Line    timeline
	Query   string // of the pages that change it
	Unused  bool   // no audience is configured with it
	Pending bool   // a successor is published
}

// Title names what the slot is for.
func (s signingSlot) Title() string {
	return either(s.Purpose == signing.Feed, "Revocation feed, "+s.Algorithm, "Tokens, "+s.Algorithm)
}

// Gone says how many were removed.
func (s signingSlot) Gone() string { return count(int64(len(s.Removed)), "removed key") }

type signingKeysShown struct {
	Slots  []signingSlot
	Timing signing.Timing
}

// listSigningKeys shows the keys of every slot and what happens to them next.
func listSigningKeys(r *request) (page, error) {
	slots, err := r.signingSlots()
	return page{template: "signing_keys", title: "Signing keys", section: "signing-keys", data: signingKeysShown{slots, r.h.Manager.Signing}}, err
}

func (r *request) signingSlots() ([]signingSlot, error) {
	stored, err := r.h.Manager.SigningKeys(r.ctx, r.by)
	if err != nil {
		return nil, err
	}
	now := r.h.Manager.Time()
	var slots []signingSlot
	for _, k := range stored {
		i := slices.IndexFunc(slots, func(s signingSlot) bool { return s.Slot == k.Slot() })
		if i < 0 {
			i, slots = len(slots), append(slots, r.newSigningSlot(k.Slot()))
		}
		slots[i].add(newSigningKey(k, r.h.Manager.Signing, now, slots[i].Unused))
	}
	for i := range slots {
		slots[i].Line = newTimeline(slots[i].Keys, now)
	}
	slices.SortStableFunc(slots, func(a, b signingSlot) int { return strings.Compare(string(b.Purpose), string(a.Purpose)) }) // tokens first
	return slots, nil
}

func (r *request) newSigningSlot(s signing.Slot) signingSlot {
	return signingSlot{
		Slot: s, Query: "?purpose=" + string(s.Purpose) + "&alg=" + s.Algorithm,
		Unused: s.Purpose == signing.Tokens && !slices.Contains(r.h.Manager.Policy.Audiences.Algorithms(), s.Algorithm),
	}
}

func (s *signingSlot) add(k signingKey) {
	if k.State == signing.Removed {
		s.Removed = slices.Insert(s.Removed, 0, k)
		return
	}
	s.Keys = append(s.Keys, k)
	s.Pending = s.Pending || k.State == signing.Pending
}

// theSlot is the one that the address names.
func (r *request) theSlot() (signingSlot, error) {
	slots, err := r.signingSlots()
	if err != nil {
		return signingSlot{}, err
	}
	for _, s := range slots {
		if string(s.Purpose) == r.QueryParam("purpose") && s.Algorithm == r.QueryParam("alg") && len(s.Keys) > 0 {
			return s, nil
		}
	}
	return signingSlot{}, workspace.ErrNotFound
}

func (r *request) signingKeysPath() string { return r.h.path("organization", "signing-keys") }

func (r *request) askingOfKeys() asking {
	return asking{Back: r.signingKeysPath(), BackText: "Signing keys"}
}

// rotateSigningKey begins to replace the key that signs.
func rotateSigningKey(r *request) (page, error) {
	slot, err := r.theSlot()
	if err != nil {
		return page{}, err
	}
	a := r.askingOfKeys()
	a.Button, a.Lead = "Rotate now", "Keys are rotated on their own; this only does it sooner. Nothing breaks."
	a.Effects = []string{
		"The next key is published at once, and signs in " + readDuration(r.h.Manager.Signing.PublishLead) + ", when every service can have fetched it.",
		"The key that signs now goes on until then, and stays published for " + readDuration(r.h.Manager.Signing.Retain) + " more, while what it signed may be good.",
	}
	if slot.Pending {
		a.Effects = []string{"The next key is published already, and signs as soon as every service can have fetched it: rotating now changes nothing."}
	}
	return r.answered("Rotate the key of “"+slot.Title()+"”", "signing-keys", a, func() error {
		_, _, err := r.h.Manager.RotateSigningKey(r.ctx, r.by, slot.Slot)
		return err
	}, a.Back, "signing-key-rotated")
}

// replaceWord is what has to be typed before keys are distrusted.
const replaceWord = "distrust"

// replaceSigningKeys distrusts the keys of a slot at once.
func replaceSigningKeys(r *request) (page, error) {
	slot, err := r.theSlot()
	if err != nil {
		return page{}, err
	}
	a, t := r.askingOfKeys(), r.h.Manager.Signing
	a.Button, a.Danger, a.Type = "Replace the keys now", true, replaceWord
	a.Lead = "Only for keys that somebody else may have. It breaks things for some minutes; to replace a key in peace, rotate it."
	a.Effects = []string{
		"Every published key of “" + slot.Title() + "” (" + count(int64(len(slot.Keys)), "key") + ") is destroyed at once, and a new one signs at once.",
		"Every token that they signed is dead: services refuse it as soon as they fetch the keys again, at most " + readDuration(t.MaxAge) + " later if they keep to max-age, and otherwise when it expires, after " + readDuration(t.TokenTTL) + " at most.",
		"New tokens are refused by services that have not fetched the new key. Those that fetch at an unknown kid do it at once; others when their cache ends, some only after hours.",
		"Services with a key set in a file refuse every new token until the file is replaced: tokenbooth jwks --out FILE.",
	}
	if slot.Purpose == signing.Feed {
		a.Effects = append(a.Effects[:1], "Services refuse the feed until they have fetched the new key. oauth/bearer does so at once and loses nothing; others go on with the revocations that they have, for "+readDuration(t.MaxAge)+" at most if they keep to max-age.",
			"Until then they also take a feed that somebody else signed with an old key.")
	}
	return r.answered("Replace the keys of “"+slot.Title()+"” in an emergency", "signing-keys", a, func() error {
		_, _, err := r.h.Manager.ReplaceSigningKeys(r.ctx, r.by, []signing.Slot{slot.Slot})
		return err
	}, a.Back, "signing-keys-replaced")
}

// retireSigningKey ends a key as early as nobody is harmed.
func retireSigningKey(r *request) (page, error) {
	slots, err := r.signingSlots()
	if err != nil {
		return page{}, err
	}
	for _, slot := range slots {
		for _, k := range slot.Keys {
			if k.ID == r.QueryParam("kid") {
				return r.retire(slot, k)
			}
		}
	}
	return page{}, workspace.ErrNotFound
}

func (r *request) retire(slot signingSlot, k signingKey) (page, error) {
	a := r.askingOfKeys()
	a.Button, a.Danger = "Remove the key", true
	a.Effects = []string{map[signing.State]string{
		signing.Pending:  "It has never signed anything: it leaves the published keys and is destroyed at once. Rotation begins anew when it is due.",
		signing.Active:   "No audience is configured with its algorithm: it stops signing, and stays published while what it signed may be good.",
		signing.Retiring: "It is destroyed, if nothing that it signed can be good any more; otherwise you are told when.",
	}[k.State]}
	p, err := r.answered("Remove key "+k.Short()+" of “"+slot.Title()+"”", "signing-keys", a, func() error {
		_, err := r.h.Manager.RetireSigningKey(r.ctx, r.by, k.ID)
		if errors.Is(err, manage.ErrNeeded) {
			return mistakes{{Text: sentence(err, manage.ErrNeeded)}}
		}
		return err
	}, a.Back, "signing-key-removed")
	return p, err
}

// life is what happens to a key, each with when it does or will; zero: it is not known.
type life struct{ Enters, Signs, Stops, Leaves time.Time }

// lifeOf puts in what will come, as far as it can be foreseen.
func lifeOf(k signing.Stored, t signing.Timing, now time.Time) life {
	l := life{Enters: firstOf(k.PublishedAt, k.CreatedAt), Signs: k.ActivatedAt.Time, Stops: k.RetiredAt.Time, Leaves: k.RemovedAt.Time}
	if k.State == signing.Removed {
		if l.Stops.IsZero() && !l.Signs.IsZero() {
			l.Stops = l.Leaves // distrusted while it signed
		}
		return l
	}
	if l.Signs.IsZero() {
		l.Signs = later(l.Enters.Add(t.PublishLead), now)
	}
	if l.Stops.IsZero() {
		l.Stops = later(l.Signs.Add(t.RotateEvery), now)
	}
	l.Leaves = later(l.Stops.Add(t.Retain), k.NeededUntil.Time)
	return l
}

func firstOf(a, b workspace.Time) time.Time {
	if a.IsZero() {
		return b.Time
	}
	return a.Time
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
