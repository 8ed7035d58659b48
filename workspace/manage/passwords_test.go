package manage_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const (
	good   = "four random words here"
	better = "four other words there"
)

// quick is argon2id that costs little.
var quick = identity.NewPasswords(identity.Hardness{Memory: 64, Passes: 1, Threads: 1})

var nowhere = manage.Origin{Address: "192.0.2.7"}

// eachGate runs f on both databases with a house in which people have passwords.
func eachGate(t *testing.T, f func(*testing.T, *house)) {
	t.Helper()
	schematest.Each(t, func(t *testing.T, db *schema.DB) { f(t, newGate(t, db)) })
}

// newGate is a house whose viewer has the password good.
func newGate(t *testing.T, db *schema.DB) *house {
	t.Helper()
	h := newHouse(t, db)
	h.Passwords = quick
	h.give(h.viewer)
	return h
}

// give gives a user the password good.
func (h *house) give(user workspace.UserID) {
	h.t.Helper()
	stored, err := quick.Hash(h.t.Context(), good)
	check(h.t, err)
	check(h.t, identity.SetPassword(h.t.Context(), h.Database.Writer(), user, stored, workspace.At(h.now)))
}

func (h *house) passkey(user workspace.UserID) {
	h.t.Helper()
	h.exec(`INSERT INTO passkeys (id, credential_id, user_id, name, credential, created_at) VALUES (?, ?, ?, 'x', '{}', 1)`,
		"psk_"+workspace.Unique(), []byte(workspace.Unique()), user)
}

// knows reports whether a password signs somebody in.
func (h *house) knows(email, password string) bool {
	h.t.Helper()
	_, _, err := h.CheckPassword(h.t.Context(), email, password)
	if err != nil {
		want(h.t, email, manage.ErrWrongPassword, err)
	}
	return err == nil
}

func TestCheckPassword(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		for _, email := range []string{"viewer@example.com", " Viewer@EXAMPLE.com\t"} {
			user, second, err := h.CheckPassword(t.Context(), email, good)
			if err != nil || user.ID != h.viewer || second {
				t.Errorf("%q: %s, %v, %v", email, user.ID, second, err)
			}
		}
		h.passkey(h.viewer)
		if _, second, err := h.CheckPassword(t.Context(), "viewer@example.com", good); err != nil || !second {
			t.Errorf("with a passkey: %v, %v", second, err)
		}
		disabled, gone, no := h.user("disabled", false), h.user("gone", false), false
		h.give(disabled)
		h.give(gone)
		_, err := h.UpdateUser(t.Context(), operator, disabled, manage.UserChange{Enabled: &no})
		check(t, err)
		check(t, h.DeleteUser(t.Context(), operator, gone))
		long := strings.Repeat("long ", 100_000)
		for _, c := range [][2]string{
			{"viewer@example.com", better}, {"viewer@example.com", ""}, {"viewer@example.com", good + " "}, {"viewer@example.com", strings.ToUpper(good)},
			{"viewer@example.com", good + "\x00"}, {"viewer@example.com", "\xff\xfe"}, {"viewer@example.com", long},
			{"disabled@example.com", good}, {"gone@example.com", good}, {"manager@example.com", good}, {"manager@example.com", ""},
			{"nobody@example.com", good}, {"", good}, {"\x00", good}, {"\xff@example.com", good}, {"viewer@example.com\x00", good}, {long, good}, {string(h.viewer), good},
			{"Viewer <viewer@example.com>", good}, {"viewer@example.com, owner@example.com", good}, {"%", good},
		} {
			user, second, err := h.CheckPassword(t.Context(), c[0], c[1])
			if !errors.Is(err, manage.ErrWrongPassword) || err.Error() != manage.ErrWrongPassword.Error() || user != (workspace.User{}) || second {
				t.Errorf("%.50q with %.50q: %+v, %v, %v", c[0], c[1], user, second, err)
			}
		}
	})
}

// Nobody learns from the time of an answer whether there is an account: it takes the
// same work, which shows in the memory that it fills. Not parallel: nobody else fills
// any meanwhile.
func TestCheckPasswordTakesAsLong(t *testing.T) {
	h := newGate(t, schematest.SQLite(t))
	const memory = 32 << 20
	h.Passwords = identity.NewPasswords(identity.Hardness{Memory: memory >> 10, Passes: 1, Threads: 1})
	h.give(h.manager)
	_, err := h.UpdateUser(t.Context(), operator, h.manager, manage.UserChange{Enabled: ptr(false)})
	check(t, err)
	for _, email := range []string{"nobody@example.com", "no address", "owner@example.com", "manager@example.com"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.knows(email, better)
		runtime.ReadMemStats(&after)
		if filled := after.TotalAlloc - before.TotalAlloc; filled < memory || filled > 2*memory {
			t.Errorf("%s is refused after %d bytes of work, want %d", email, filled, memory)
		}
	}
}

// A right password is hashed anew when its hardness is not the present one.
func TestPasswordsAreRehashed(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		stored := func() string {
			return get[string](h, `SELECT phc FROM passwords WHERE user_id = ?`, h.viewer)
		}
		before := stored()
		h.knows("viewer@example.com", good)
		if stored() != before {
			t.Error("it was hashed anew with the hardness that it has")
		}
		cookie, _ := h.signIn(h.viewer)
		h.now = h.now.Add(time.Minute)
		h.Passwords = identity.NewPasswords(identity.Hardness{Memory: 128, Passes: 1, Threads: 1})
		h.knows("viewer@example.com", better)
		if stored() != before {
			t.Error("a wrong password was stored")
		}
		if !h.knows("viewer@example.com", good) || !strings.Contains(stored(), "m=128,") || !h.knows("viewer@example.com", good) {
			t.Errorf("stored is %s", stored())
		}
		if !h.signedIn(cookie) {
			t.Error("it has ended a session")
		}
	})
}

func TestSetOwnPassword(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		viewer := manage.User(h.viewer)
		here, session := h.signIn(h.viewer)
		there, _ := h.signIn(h.viewer)
		_, finish := h.begin(h.viewer) // a request that is under way
		link, err := h.AccessLink(t.Context(), operator, h.viewer)
		check(t, err)
		h.now = h.now.Add(time.Second)
		before := h.dump()
		for what, c := range map[string]struct {
			current, fresh string
			kind           error
		}{
			"a wrong one": {better, better, manage.ErrWrongPassword}, "none": {"", better, manage.ErrWrongPassword}, "the same": {good, good, workspace.ErrInvalid},
			"too short": {good, "short", workspace.ErrInvalid}, "the address": {good, "viewer@example.com", workspace.ErrInvalid},
			"bytes": {good, "four random words \xff", workspace.ErrInvalid}, "too long": {good, strings.Repeat("long words ", 1000), workspace.ErrInvalid},
		} {
			want(t, what, c.kind, h.SetOwnPassword(t.Context(), viewer, session, c.current, c.fresh))
		}
		if after := h.dump(); after != before {
			t.Fatalf("refusals leave\n%s\ninstead of\n%s", after, before)
		}
		check(t, h.SetOwnPassword(t.Context(), viewer, session, good, better))
		if h.knows("viewer@example.com", good) || !h.knows("viewer@example.com", better) {
			t.Error("the password is another than was set")
		}
		if !h.signedIn(here) || h.signedIn(there) || h.signedIn(finish()) {
			t.Error("not this session alone goes on")
		}
		found, err := h.Sessions(t.Context(), viewer, h.limits())
		if check(t, err); len(found) != 1 || found[0].ID != session.ID {
			t.Errorf("%+v", found)
		}
		_, err = h.UseAccessLink(t.Context(), nowhere, link.Token, good)
		want(t, "the access link from before", workspace.ErrNotFound, err)
		if events := h.events(audit.Instance); events[len(events)-1].Action != "password.set" || strings.Contains(h.dump(), better) {
			t.Errorf("recorded is %+v", events[len(events)-1])
		}
	})
}

// Sessions end also when the clock was set back, so that they seem to be younger.
func TestSetOwnPasswordWithAnotherClock(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		h.now = h.now.Add(time.Minute)
		here, session := h.signIn(h.viewer)
		there, _ := h.signIn(h.viewer)
		h.now = h.now.Add(-time.Minute)
		check(t, h.SetOwnPassword(t.Context(), manage.User(h.viewer), session, good, better))
		if !h.signedIn(here) || h.signedIn(there) {
			t.Errorf("this session goes on: %v, and the other: %v", h.signedIn(here), h.signedIn(there))
		}
	})
}

// Who has no password sets the first one soon after signing in otherwise.
func TestFirstPassword(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		manager := manage.User(h.manager)
		_, session := h.signIn(h.manager)
		h.now = h.now.Add(15*time.Minute + time.Microsecond)
		want(t, "late", workspace.ErrForbidden, h.SetOwnPassword(t.Context(), manager, session, "", good))
		h.now = h.now.Add(-time.Microsecond)
		check(t, h.SetOwnPassword(t.Context(), manager, session, "", good))
		want(t, "without it", manage.ErrWrongPassword, h.SetOwnPassword(t.Context(), manager, session, "", better))
		if !h.knows("manager@example.com", good) {
			t.Error("it is not set")
		}
	})
}

func TestAccessLink(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		h.passkey(h.viewer)
		cookie, _ := h.signIn(h.viewer)
		other, _ := h.signIn(h.manager)
		first, err := h.AccessLink(t.Context(), manage.User(h.admin), h.viewer)
		check(t, err)
		link, err := h.AccessLink(t.Context(), manage.User(h.admin), h.viewer)
		check(t, err)
		if len(link.Token) != 43 || link.Kind != identity.AccessLink || link.UserID != h.viewer || !link.ExpiresAt.Equal(h.now.Add(24*time.Hour)) || strings.Contains(h.dump(), link.Token) {
			t.Errorf("%+v", link)
		}
		before := h.dump()
		opened, err := h.OpenAccessLink(t.Context(), link.Token)
		if err != nil || opened.ID != h.viewer {
			t.Errorf("%+v, %v", opened, err)
		}
		_, err = h.UseAccessLink(t.Context(), nowhere, first.Token, better)
		want(t, "the one before", workspace.ErrNotFound, err)
		_, err = h.UseAccessLink(t.Context(), nowhere, link.Token, "short")
		want(t, "a short password", workspace.ErrInvalid, err)
		if after := h.dump(); after != before {
			t.Fatalf("left is\n%s\ninstead of\n%s", after, before)
		}
		if !h.signedIn(cookie) {
			t.Fatal("making a link ends sessions")
		}
		_, finish := h.begin(h.viewer)
		h.now = h.now.Add(time.Second)
		user, err := h.UseAccessLink(t.Context(), nowhere, link.Token, better)
		if check(t, err); user.ID != h.viewer || h.knows("viewer@example.com", good) || !h.knows("viewer@example.com", better) {
			t.Errorf("%+v has another password", user)
		}
		methods, err := h.SignInMethods(t.Context(), manage.User(h.viewer), h.viewer)
		if check(t, err); methods != (identity.Methods{Password: true}) || h.signedIn(cookie) || h.signedIn(finish()) || !h.signedIn(other) {
			t.Errorf("%+v: not all from before has ended, or something else has", methods)
		}
		_, err = h.UseAccessLink(t.Context(), nowhere, link.Token, good)
		want(t, "again", workspace.ErrNotFound, err)
		for _, action := range []string{"access_link.create by user", "access_link.use by user", "password.set by user"} {
			if !slices.Contains(h.actions(audit.Instance), action) {
				t.Errorf("%s is not recorded", action)
			}
		}
	})
}

// A link is of no use in the place of another kind, when its time is over, or when it
// is none.
func TestAccessLinkIsRefused(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		link, err := h.AccessLink(t.Context(), operator, h.viewer)
		check(t, err)
		invited, err := h.CreateInvitation(t.Context(), operator, h.ws, "new@example.com", workspace.Viewer)
		check(t, err)
		before := h.dump()
		for _, token := range []string{"", "x", link.ID, invited.Token, link.Token + "\x00", "\xff", link.Token[1:], strings.Repeat(link.Token, 10_000)} {
			_, err := h.UseAccessLink(t.Context(), nowhere, token, better)
			want(t, "a wrong token", workspace.ErrNotFound, err)
		}
		_, err = h.JoinByInvitation(t.Context(), nowhere, link.Token, "", better)
		want(t, "as an invitation", workspace.ErrNotFound, err)
		want(t, "as an invitation", workspace.ErrNotFound, h.AcceptInvitation(t.Context(), manage.User(h.outsider), link.Token))
		_, _, err = h.SetUp(t.Context(), nowhere, link.Token, manage.SetUpPerson{Email: "a@example.com", Password: better})
		want(t, "to set up", workspace.ErrNotFound, err)
		h.now = h.now.Add(24 * time.Hour)
		_, err = h.UseAccessLink(t.Context(), nowhere, link.Token, better)
		want(t, "late", workspace.ErrNotFound, err)
		if after := h.dump(); after != before {
			t.Errorf("left is\n%s\ninstead of\n%s", after, before)
		}
	})
}

// A link does not outlive that its user is disabled or deleted, or that its maker may
// make one.
func TestAccessLinkEnds(t *testing.T) {
	yes, no := true, false
	for what, end := range map[string]func(*house) error{
		"the user was disabled": func(h *house) error {
			_, err := h.UpdateUser(h.t.Context(), operator, h.viewer, manage.UserChange{Enabled: &no})
			return err
		},
		"the user was disabled for a while": func(h *house) error {
			_, err := h.UpdateUser(h.t.Context(), operator, h.viewer, manage.UserChange{Enabled: &no})
			check(h.t, err)
			_, err = h.UpdateUser(h.t.Context(), operator, h.viewer, manage.UserChange{Enabled: &yes})
			return err
		},
		"the user was deleted": func(h *house) error { return h.DeleteUser(h.t.Context(), operator, h.viewer) },
		"its maker is no admin any more": func(h *house) error {
			_, err := h.UpdateUser(h.t.Context(), operator, h.admin, manage.UserChange{OrganizationAdmin: &no})
			return err
		},
		"its maker was deleted": func(h *house) error { return h.DeleteUser(h.t.Context(), operator, h.admin) },
	} {
		t.Run(what, func(t *testing.T) {
			eachGate(t, func(t *testing.T, h *house) {
				h.user("another-admin", true)
				link, err := h.AccessLink(t.Context(), manage.User(h.admin), h.viewer)
				check(t, err)
				check(t, end(h))
				_, err = h.OpenAccessLink(t.Context(), link.Token)
				want(t, "open", workspace.ErrNotFound, err)
				_, err = h.UseAccessLink(t.Context(), nowhere, link.Token, better)
				want(t, "use", workspace.ErrNotFound, err)
			})
		})
	}
}

func TestWhoMakesAccessLinks(t *testing.T) {
	t.Parallel()
	h := newGate(t, schematest.SQLite(t))
	check(t, h.AddMember(t.Context(), operator, h.ws, h.admin, workspace.Owner))
	issued, err := h.CreatePersonalKey(t.Context(), manage.User(h.admin), h.ws, manage.NewKey{Name: "cli"})
	check(t, err)
	for what, by := range map[string]manage.Caller{
		"an owner": manage.User(h.owner), "a viewer, for themself": manage.User(h.viewer), "a key": manage.Bearer(h.key(h.sa).Key, nil),
		"a key of an admin": manage.Bearer(issued.Key, nil),
	} {
		_, err := h.AccessLink(t.Context(), by, h.viewer)
		want(t, what, workspace.ErrForbidden, err)
		if by.String() == manage.User(h.viewer).String() {
			continue // it is their own
		}
		_, err = h.SignInMethods(t.Context(), by, h.viewer)
		if what != "a key of an admin" {
			want(t, what+" asks for methods", workspace.ErrForbidden, err)
		}
	}
	_, err = h.AccessLink(t.Context(), operator, "usr_none")
	want(t, "for nobody", workspace.ErrNotFound, err)
	no := false
	_, err = h.UpdateUser(t.Context(), operator, h.viewer, manage.UserChange{Enabled: &no})
	check(t, err)
	_, err = h.AccessLink(t.Context(), operator, h.viewer)
	want(t, "for somebody disabled", workspace.ErrConflict, err)
}

// A form that is sent again makes no second link, and does not show the first again.
func TestAccessLinkIsShownOnce(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		by := manage.User(h.admin).Once(manage.Once{Key: "form:1", Request: "x", Hide: true})
		link, err := h.AccessLink(t.Context(), by, h.viewer)
		check(t, err)
		again, err := h.AccessLink(t.Context(), by, h.viewer)
		if check(t, err); again.Link != link.Link || again.Token != "" || link.Token == "" {
			t.Errorf("%+v, then %+v", link, again)
		}
		_, err = h.UseAccessLink(t.Context(), nowhere, link.Token, better)
		want(t, "use it", nil, err)
	})
}

// race runs f several times at once and returns how many succeed; the others get
// one of the errors.
func race(t *testing.T, f func(context.Context, int) error, otherwise ...error) (won int) {
	t.Helper()
	const runners = 4
	errs := make([]error, runners)
	var running sync.WaitGroup
	for i := range runners {
		running.Go(func() { errs[i] = f(t.Context(), i) })
	}
	running.Wait()
	for _, err := range errs {
		if err == nil {
			won++
		} else if !slices.ContainsFunc(otherwise, func(kind error) bool { return errors.Is(err, kind) }) {
			t.Errorf("whoever came late: %v, want one of %v", err, otherwise)
		}
	}
	return won
}

func TestAccessLinkIsUsedOnce(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		link, err := h.AccessLink(t.Context(), operator, h.viewer)
		check(t, err)
		var mine string
		var mu sync.Mutex
		won := race(t, func(ctx context.Context, i int) error {
			password := strings.Repeat("abcd"[i:i+1], 3) + " " + better
			_, err := h.UseAccessLink(ctx, nowhere, link.Token, password)
			if err == nil {
				mu.Lock()
				mine = password
				mu.Unlock()
			}
			return err
		}, workspace.ErrNotFound)
		if won != 1 || !h.knows("viewer@example.com", mine) {
			t.Errorf("%d have set the password", won)
		}
	})
}
