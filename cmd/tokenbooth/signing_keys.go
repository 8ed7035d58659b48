package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func newSigningKeysCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "signing-keys",
		Short: "List and rotate the keys that sign tokens and the revocation feed",
		Long: `Signing-keys shows and changes the keys that sign tokens, and those that sign the
feed of revocations, which verifiers fetch from another address: neither signs what
the other does. It works on the configured database itself, so it is for the operator
on the host; running servers take changes in at once.

Servers rotate these keys on their own. A key is

    pending   published, so that verifiers fetch it; it does not sign yet
    active    it signs; there is one for each algorithm of tokens, and one for the feed
    retiring  published while what it signed may be good
    removed   its private part is destroyed`,
		Example: `$ tokenbooth signing-keys list
$ tokenbooth signing-keys rotate
$ tokenbooth signing-keys rotate --feed
$ tokenbooth signing-keys rotate --emergency --yes`,
	}
	command.AddCommand(newSigningKeysListCommand(env), newSigningKeysRotateCommand(env), newSigningKeysRetireCommand(env), newSigningKeysRewrapCommand(env))
	return command
}

// withManager runs f on the configured database.
func withManager(ctx context.Context, env *environment, f func(*backend) error) error {
	config, err := env.loadConfig()
	if err != nil {
		return err
	}
	if err := wantDatabase(config); err != nil {
		return err
	}
	b, err := openBackend(ctx, config, newLog(env.stderr, config))
	if err != nil {
		return err
	}
	defer func() { _ = b.close() }()
	err = f(b)
	switch {
	case errors.Is(err, workspace.ErrNotFound), errors.Is(err, workspace.ErrConflict), errors.Is(err, manage.ErrNeeded):
		return exitWith(exitNotFound, err, "`tokenbooth signing-keys list` shows the keys and their times")
	case errors.Is(err, manage.ErrPending):
		return exitWith(exitRetry, err, "nothing is lost: a server that did not confirm it takes it in as soon as it is back, and answers no exchange before")
	case errors.Is(err, signing.ErrSealed):
		return exitWith(exitFailure, err, "run this with the servers' configuration")
	}
	return err
}

// wantDatabase refuses to make an installation where somebody looks for one.
func wantDatabase(config *Config) error {
	path, embedded := embeddedPath(config)
	if _, err := os.Stat(path); embedded && errors.Is(err, fs.ErrNotExist) {
		return exitWith(exitFailure, fmt.Errorf("there is no database at %s", path), "run this where the server runs, with its configuration: --config FILE, or --data DIRECTORY")
	}
	return nil
}

func newSigningKeysListCommand(env *environment) *cobra.Command {
	var all, asJSON bool
	command := &cobra.Command{
		Use:   "list [--all] [--json]",
		Short: "Show the signing keys and what happens to them next",
		Long:  `List shows the published signing keys, oldest first, and what happens to each next.`,
		Example: `$ tokenbooth signing-keys list
$ tokenbooth signing-keys list --all --json | jq -r '.[].kid'`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withManager(c.Context(), env, func(b *backend) error {
				read := signing.Published
				if all {
					read = signing.All
				}
				stored, err := read(c.Context(), b.db.Reader())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(env, describeKeys(stored, b.manager.Signing))
				}
				return printKeys(env, describeKeys(stored, b.manager.Signing))
			})
		},
	}
	command.Flags().BoolVar(&all, "all", false, "show the removed keys too")
	command.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return command
}

// signingKey is how a key is shown. Times that have not come are null.
type signingKey struct {
	ID          string          `json:"kid"`
	Purpose     signing.Purpose `json:"purpose"`
	Algorithm   string          `json:"alg"`
	SealedBy    string          `json:"sealed_by"` // ID of the key-encryption key; empty: destroyed
	State       signing.State   `json:"state"`
	CreatedAt   workspace.Time  `json:"created_at"`
	PublishedAt workspace.Time  `json:"published_at"`
	ActivatedAt workspace.Time  `json:"activated_at"`
	RetiredAt   workspace.Time  `json:"retired_at"`
	NeededUntil workspace.Time  `json:"needed_until"`
	RemovedAt   workspace.Time  `json:"removed_at"`
	Next        string          `json:"next"`
}

func describeKeys(stored []signing.Stored, timing signing.Timing) []signingKey {
	described := []signingKey{}
	for _, k := range stored {
		described = append(described, signingKey{
			ID: k.ID, Purpose: k.Purpose, Algorithm: k.Algorithm, State: k.State, SealedBy: sealedBy(k),
			CreatedAt: k.CreatedAt, PublishedAt: k.PublishedAt, ActivatedAt: k.ActivatedAt, RetiredAt: k.RetiredAt, NeededUntil: k.NeededUntil, RemovedAt: k.RemovedAt, Next: nextStep(k, timing),
		})
	}
	return described
}

// sealedBy is the key-encryption key without which the key does not open.
func sealedBy(k signing.Stored) string {
	if k.State == signing.Removed {
		return ""
	}
	return k.SealerID
}

// nextStep says what happens to a key next, and when.
func nextStep(k signing.Stored, timing signing.Timing) string {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case k.State == signing.Pending && k.PublishedAt.IsZero():
		return "waits until every server publishes it"
	case k.State == signing.Pending:
		return "signs from " + at(k.PublishedAt.Add(timing.PublishLead))
	case k.State == signing.Active:
		return "is replaced about " + at(k.ActivatedAt.Add(timing.RotateEvery))
	case k.State == signing.Retiring && k.NeededUntil.IsZero():
		return "waits until no server signs with it"
	case k.State == signing.Retiring:
		removed := k.RetiredAt.Add(timing.Retain)
		if removed.Before(k.NeededUntil.Time) {
			removed = k.NeededUntil.Time
		}
		return "is removed about " + at(removed)
	}
	return "was removed at " + at(k.RemovedAt.Time)
}

func printKeys(env *environment, described []signingKey) error {
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KID\tALG\tSTATE\tPURPOSE\tNEXT")
	for _, k := range described {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Algorithm, k.State, k.Purpose, k.Next)
	}
	return w.Flush()
}

// whose says which keys a rotation concerns.
type whose struct {
	algorithm string // empty: see the flag
	feed      bool
}

// check says what is wrong with the flags.
func (w whose) check(c *cobra.Command) error {
	switch {
	case w.feed && w.algorithm != "":
		return usagef(c, "--feed and --algorithm exclude each other: %s signs the feed", signing.FeedAlgorithm)
	case w.algorithm != "" && !slices.Contains(policy.Algorithms(), w.algorithm):
		return usagef(c, "--algorithm: %q is none of %s", w.algorithm, strings.Join(policy.Algorithms(), ", "))
	}
	return nil
}

// slot is the one whose key an ordinary rotation replaces.
func (w whose) slot() signing.Slot {
	if w.feed {
		return signing.FeedSlot()
	}
	return signing.TokenSlot(cmp.Or(w.algorithm, jwk.ES256))
}

// slots are those whose keys an emergency replaces: all, if none was named.
func (w whose) slots(present []signing.Stored) (found []signing.Slot) {
	if w != (whose{}) {
		return []signing.Slot{w.slot()}
	}
	for _, k := range present {
		if !slices.Contains(found, k.Slot()) {
			found = append(found, k.Slot())
		}
	}
	return found
}

func newSigningKeysRotateCommand(env *environment) *cobra.Command {
	var w whose
	var emergency, yes bool
	command := &cobra.Command{
		Use:   "rotate [--algorithm ALG | --feed] [--emergency [--yes]]",
		Short: "Replace the key that signs",
		Long: `Rotate publishes the successor of the active key. It signs after
signing.publish_lead, when every verifier can have fetched it; a server has to run
for that. Nothing breaks. Run again meanwhile, it changes nothing. With --feed it is
the key that signs the feed of revocations, otherwise one that signs tokens.

With --emergency every published key, those of one algorithm for tokens, or those of
the feed, is distrusted at once and destroyed, and new keys sign at once. That is for
keys that somebody else may have. It breaks things for some minutes: without --yes it
only says which.`,
		Example: `$ tokenbooth signing-keys rotate
$ tokenbooth signing-keys rotate --algorithm RS256
$ tokenbooth signing-keys rotate --feed
$ tokenbooth signing-keys rotate --emergency --yes`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := w.check(c); err != nil {
				return err
			}
			if yes && !emergency {
				return usagef(c, "--yes belongs to --emergency: an ordinary rotation breaks nothing")
			}
			return withManager(c.Context(), env, func(b *backend) error {
				if emergency {
					return replaceKeys(c, env, b, w, yes)
				}
				return rotateKey(c, env, b, w.slot())
			})
		},
	}
	command.Flags().StringVar(&w.algorithm, "algorithm", "", "the `ALG` whose key for tokens is replaced: "+strings.Join(policy.Algorithms(), ", ")+" (default ES256; with --emergency all)")
	command.Flags().BoolVar(&w.feed, "feed", false, "replace the key that signs the feed of revocations")
	command.Flags().BoolVar(&emergency, "emergency", false, "distrust the present keys at once")
	command.Flags().BoolVar(&yes, "yes", false, "do it: I know what breaks")
	return command
}

func rotateKey(c *cobra.Command, env *environment, b *backend, slot signing.Slot) error {
	next, from, err := b.manager.RotateSigningKey(c.Context(), manage.Operator(operatorName()), slot)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "%s is published since %s and signs from %s on.\n",
		next.ID, next.PublishedAt.Format(time.RFC3339), from.UTC().Format(time.RFC3339))
	return err
}

// replaceKeys is the emergency. What breaks is said before and after.
func replaceKeys(c *cobra.Command, env *environment, b *backend, w whose, yes bool) error {
	present, err := signing.Published(c.Context(), b.db.Reader())
	if err != nil {
		return err
	}
	slots := w.slots(present)
	fmt.Fprint(env.stderr, consequences(b, slots))
	if !yes {
		return usagef(c, "nothing was changed: add --yes to distrust every published key of %s", nameAll(slots))
	}
	old, fresh, err := b.manager.ReplaceSigningKeys(c.Context(), manage.Operator(operatorName()), slots)
	for _, k := range old {
		fmt.Fprintf(env.stdout, "distrusted  %s  %s\n", k.ID, k.Slot())
	}
	for _, k := range fresh {
		fmt.Fprintf(env.stdout, "signs now   %s  %s\n", k.ID, k.Slot())
	}
	return err
}

func nameAll(slots []signing.Slot) string {
	var names []string
	for _, slot := range slots {
		names = append(names, slot.String())
	}
	return strings.Join(names, ", ")
}

// consequences says what an emergency rotation breaks, and for how long.
func consequences(b *backend, slots []signing.Slot) string {
	var text strings.Builder
	text.WriteString("What an emergency rotation breaks, and for how long:\n")
	if slices.ContainsFunc(slots, func(s signing.Slot) bool { return s.Purpose == signing.Tokens }) {
		text.WriteString(tokenConsequences(b))
	}
	if slices.Contains(slots, signing.FeedSlot()) {
		text.WriteString(feedConsequences(b))
	}
	return text.String()
}

func tokenConsequences(b *backend) string {
	t := b.manager.Signing
	return fmt.Sprintf(`  - Tokens that were issued before: services refuse them as soon as they fetch the
    keys again, which is at most %[1]s for those that keep to max-age. Services that
    keep keys for longer take them until they expire: %[2]s by default, %[3]s at most.
    Automation that fails with 401 has to fetch a new token; most does so when its
    token is due.
  - New tokens: a service refuses them until it has fetched the new keys. oauth/bearer
    and other verifiers that fetch at an unknown kid do so at once; others within
    their cache time: %[1]s by max-age, 10 min (Envoy), 20 min (Istio), 2 h (AWS API
    Gateway), up to 12 h (ASP.NET).
  - Verifiers with a key set in a file (PostgREST, Kong) refuse every new token until
    you replace the file: tokenbooth jwks --out FILE.
`, shortDuration(t.MaxAge), shortDuration(b.config.Tokens.TTL), shortDuration(t.TokenTTL))
}

func feedConsequences(b *backend) string {
	return fmt.Sprintf(`  - The feed of revocations: a service refuses it until it has fetched the new keys.
    oauth/bearer does so at once, and loses nothing. Others go on with the revocations
    that they have, for %s at most if they keep to max-age. Until then they also take a
    feed that somebody else signed with an old key.
`, shortDuration(b.manager.Signing.MaxAge))
}

func newSigningKeysRetireCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "retire KID",
		Short: "Remove a key as early as nobody is harmed",
		Long: `Retire removes a pending key, which has never signed, at once; and a retiring key
when nothing that it signed can be good any more. It refuses before that, and says
when it will be. The active key is refused as long as audiences are configured with
its algorithm, and that of the feed always: rotate it. A KID that begins with a hyphen goes after --.`,
		Example: `$ tokenbooth signing-keys retire bkFA2exmfQtjW1GZqm1Sod3jsl4pJSZ9YeOnbZJlsNM
$ tokenbooth signing-keys retire -- -kFA2exmfQtjW1GZqm1Sod3jsl4pJSZ9YeOnbZJlsNM`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(c, "name one key by its KID; `tokenbooth signing-keys list` shows them")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return withManager(c.Context(), env, func(b *backend) error {
				key, err := b.manager.RetireSigningKey(c.Context(), manage.Operator(operatorName()), args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(env.stdout, "%s is %s; it %s.\n", key.ID, key.State, nextStep(key, b.manager.Signing))
				return err
			})
		},
	}
}
