package identity_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// soft makes tests quick.
var soft = identity.Hardness{Memory: 64, Passes: 1, Threads: 1}

func hashed(t *testing.T, p *identity.Passwords, password string) string {
	t.Helper()
	stored, err := p.Hash(t.Context(), password)
	fatal(t, err)
	return stored
}

func TestPasswordsAreTold(t *testing.T) {
	t.Parallel()
	p := identity.NewPasswords(soft)
	for _, password := range []string{"correct horse", "", "pass\x00word", "пароль пароль", "\xff\xfe not utf-8", strings.Repeat("long", 50_000), " spaces count "} {
		stored := hashed(t, p, password)
		for _, other := range []string{password, password + " ", strings.TrimSuffix(password, "d"), strings.ToUpper(password), strings.TrimSpace(password)} {
			right, stale, err := p.Check(t.Context(), stored, other)
			fatal(t, err)
			if right != (other == password) || stale {
				t.Errorf("%.20q against %.20q: right %v, stale %v", other, password, right, stale)
			}
		}
	}
}

func TestPasswordsAreStoredAsTheyShouldBe(t *testing.T) {
	t.Parallel()
	p := identity.NewPasswords(identity.DefaultHardness)
	one, other := hashed(t, p, "correct horse"), hashed(t, p, "correct horse")
	if one == other {
		t.Error("two hashes of one password are the same: there is no salt")
	}
	parts := strings.Split(one, "$")
	if prefix := strings.Join(parts[:4], "$"); prefix != "$argon2id$v=19$m=19456,t=2,p=1" || len(parts[4]) != 22 || len(parts[5]) != 43 {
		t.Errorf("stored as %s", one)
	}
}

// A password of another hardness is right all the same, and known to be stale.
func TestPasswordsGetHarder(t *testing.T) {
	t.Parallel()
	before := hashed(t, identity.NewPasswords(soft), "correct horse")
	harder := identity.NewPasswords(identity.Hardness{Memory: 128, Passes: 2, Threads: 1})
	right, stale, err := harder.Check(t.Context(), before, "correct horse")
	if err != nil || !right || !stale {
		t.Errorf("right %v, stale %v, %v", right, stale, err)
	}
	if right, _, err := harder.Check(t.Context(), before, "wrong horse"); err != nil || right {
		t.Errorf("a wrong one is right: %v, %v", right, err)
	}
}

// Test vector of the reference implementation of argon2 (phc-winner-argon2, test.c).
func TestPasswordOfTheReference(t *testing.T) {
	t.Parallel()
	const stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	right, stale, err := identity.NewPasswords(soft).Check(t.Context(), stored, "password")
	if err != nil || !right || !stale {
		t.Errorf("right %v, stale %v, %v", right, stale, err)
	}
}

// What somebody wrote into the database cannot take the machine's memory or time, and
// is refused before any work is done.
func TestStoredPasswordsAreBounded(t *testing.T) {
	t.Parallel()
	const good = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	p := identity.NewPasswords(soft)
	if _, _, err := p.Check(t.Context(), good, "x"); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ old, new string }{
		{"m=64", "m=4294967295"}, {"m=64", "m=262145"}, {"m=64", "m=7"}, {"m=64", "m=0"}, {"m=64", "m=-1"}, {"m=64", "m=064"}, {"m=64", "m= 64"}, {"m=64", "m=99999999999999999999"},
		{"t=1", "t=0"}, {"t=1", "t=17"}, {"t=1", "t=4294967295"}, {"p=1", "p=0"}, {"p=1", "p=17"}, {"p=1", "p=257"}, {"p=1", "p=1,x=2"},
		{"argon2id", "argon2i"}, {"argon2id", "ARGON2ID"}, {"v=19", "v=16"}, {"v=19$", ""}, {"$c29tZXNhbHRzb21lc2FsdA", "$c29t"},
		{"$CTFh", "$$CTFh"}, {"PPc", "PPd"}, {"PPc", "PPc="}, {"PPc", "PPc\n"}, {"$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "$"}, {"$argon2id", "argon2id"}, {good, ""},
		{"c29tZXNhbHRzb21lc2FsdA", strings.Repeat("c29t", 30)}, {"CTFhFdXPJO1a", strings.Repeat("CTFh", 30)},
	} {
		stored := strings.Replace(good, change.old, change.new, 1)
		if right, _, err := p.Check(t.Context(), stored, "x"); err == nil || right {
			t.Errorf("%q was taken: %v", stored, right)
		} else if stored != "" && strings.Contains(err.Error(), stored) {
			t.Errorf("the error quotes it: %v", err)
		}
	}
}

// As many as half the cores are at work at once; the rest waits, no longer than it may.
func TestPasswordsWaitTheirTurn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p, slots := identity.NewPasswords(soft), max(1, runtime.GOMAXPROCS(0)/2)
	release := identity.Occupy(p, slots)
	done := make(chan error, 3)
	go func() { _, err := p.Hash(ctx, "correct horse"); done <- err }()
	go func() { done <- p.CheckNothing(ctx, "correct horse") }()
	select {
	case err := <-done:
		t.Fatalf("there were no slots, and it ended: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	for range 2 {
		want(t, "waiting for a slot", context.Canceled, <-done)
	}
	go func() { done <- p.CheckNothing(t.Context(), "correct horse") }()
	release()
	fatal(t, <-done)
}

// The queue has an end, and some room more for whoever is expected.
func TestPasswordsDoNotWaitForEver(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p, slots := identity.NewPasswords(soft), max(1, runtime.GOMAXPROCS(0)/2)
	release := identity.Occupy(p, slots)
	defer release()
	done := make(chan error)
	for range 1000 {
		go func() { done <- p.CheckNothing(ctx, "correct horse") }()
	}
	busy := 0
	for range 1000 - identity.Queue(p) {
		want(t, "a stranger too many", identity.ErrBusy, <-done)
		busy++
	}
	if busy == 0 {
		t.Error("all of them wait")
	}
	go func() { done <- p.CheckNothing(identity.Expected(ctx), "correct horse") }()
	select {
	case err := <-done:
		t.Fatalf("whoever is expected found no room: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	for range identity.Queue(p) + 1 {
		want(t, "waiting", context.Canceled, <-done)
	}
}

func TestChosenPasswords(t *testing.T) {
	t.Parallel()
	const email = "Maximiliane@Example.com"
	for _, password := range []string{
		"twelve chars", "tulip gravel oven march", "ключи от дома", "        space     s", "aaaaaaaaaaab", "maximilianes key", "nul\x00is a character",
		strings.Repeat("é1x漢", 63) + "four", "12345678901x",
	} {
		if err := identity.ValidPassword(password, email); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
	for password, reason := range map[string]string{
		"": "0 characters", "eleven char": "at least 12", "ééééééééééé": "11 characters", strings.Repeat("é1x漢", 64) + "x": "at most 256",
		"maximiliane@example.com": "e-mail address", "MAXIMILIANE@EXAMPLE.COM": "e-mail address", "maximilianemaximiliane": "e-mail address", "maximilianeM": "e-mail address",
		"aaaaaaaaaaaa": "over and over", "abcabcabcabc": "over and over", "AbcaBcabCabca": "over and over", "            ": "over and over", "漢字漢字漢字漢字漢字漢字": "over and over",
		"password1234": "tried first", "PassWord1234": "tried first", "correct horse battery staple": "tried first",
		"invalid \xff\xfe bytes": "no characters",
	} {
		err := identity.ValidPassword(password, email)
		if !errors.Is(err, workspace.ErrInvalid) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, want %s", password, err, reason)
		} else if password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("the error quotes it: %v", err)
		}
	}
	// Nobody is asked about their local part when there is none.
	if err := identity.ValidPassword("tulip gravel oven", ""); err != nil {
		t.Error(err)
	}
}

// A list of passwords that are too short anyway says nothing.
func TestWellKnownPasswordsAreOtherwiseFine(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, password := range identity.WellKnown {
		if seen[password] || len(password) < identity.MinPassword || password != strings.ToLower(password) {
			t.Errorf("%q is there twice, or never looked up", password)
		}
		seen[password] = true
	}
}

func TestPasswordStore(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx, ada, bob := t.Context(), someone(t, db, "ada@example.com").ID, someone(t, db, "bob@example.com").ID
		is := func(want string) {
			t.Helper()
			if got, err := identity.PasswordOf(ctx, db.Reader(), ada); err != nil || got != want {
				t.Errorf("stored is %q, want %q: %v", got, want, err)
			}
		}
		_, err := identity.PasswordOf(ctx, db.Reader(), ada)
		want(t, "no password", workspace.ErrNotFound, err)
		_, err = identity.PasswordOf(ctx, db.Reader(), "")
		want(t, "nobody's password", workspace.ErrNotFound, err)
		fatal(t, identity.SetPassword(ctx, db.Writer(), ada, "one", noon))
		is("one")
		fatal(t, identity.SetPassword(ctx, db.Writer(), ada, "two", after(time.Hour)))
		is("two")
		fatal(t, identity.RehashPassword(ctx, db.Writer(), ada, "one", "other")) // changed meanwhile
		is("two")
		fatal(t, identity.RehashPassword(ctx, db.Writer(), ada, "two", "harder"))
		is("harder")
		_, err = identity.PasswordOf(ctx, db.Reader(), bob)
		want(t, "somebody else's", workspace.ErrNotFound, err)
		fatal(t, identity.DeletePassword(ctx, db.Writer(), ada))
		fatal(t, identity.DeletePassword(ctx, db.Writer(), ada))
		_, err = identity.PasswordOf(ctx, db.Reader(), ada)
		want(t, "a deleted one", workspace.ErrNotFound, err)
	})
}

// Whatever stands in the database is read as it was written, or refused; and what is
// read asks for no more work than is allowed.
func FuzzStoredPassword(f *testing.F) {
	for _, seed := range []string{
		"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q", "$argon2id$v=19$m=+64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q", "$$$$$", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, again, err := identity.ReadStored(text)
		if err != nil {
			return
		}
		if again != text {
			t.Errorf("%q is read as %q", text, again)
		}
		if h.Memory > 256<<10 || h.Memory < 8*uint32(h.Threads) || h.Passes < 1 || h.Passes > 16 || h.Threads < 1 || h.Threads > 16 {
			t.Errorf("%q asks for %+v", text, h)
		}
	})
}
