package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func newRestoreCheckCommand(env *environment) *cobra.Command {
	var paths []string
	var apply bool
	var output outputFormat
	command := &cobra.Command{
		Use:   "restore-check [--journal FILE …] [--apply] [-o FORMAT]",
		Short: "Bring back revocations that a backup does not have",
		Long: `Restore-check compares the database with the journals of its servers. A database
that was restored from a backup lacks what was revoked since; the journals have it.
It works on the configured database itself, so it is for the operator on the host.

It ends with code 1 if anything is missing. With --apply it brings that back, all or
nothing: keys are revoked, service accounts and users disabled, workspaces suspended and
signing keys distrusted as they were, and older tokens are denied. What was narrowed is
wide again in the backup, and the journal does not say how it was: that is listed for
review. Run again, it finds nothing to do.

Name the journals of all servers: each has what it has seen. Reading them disturbs no
server; --apply wants every server stopped, and refuses while one holds a journal or the
embedded database.`,
		Example: `$ tokenbooth restore-check
$ tokenbooth restore-check --journal /mnt/a/revocations.jsonl --journal /mnt/b/revocations.jsonl --apply
$ tokenbooth restore-check -o json | jq -r '.subjects[] | select(.review) | .id'`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := output.check(c); err != nil {
				return err
			}
			return withManager(c.Context(), env, func(b *backend) error {
				if len(paths) == 0 && b.config.Revocation.Journal != "" {
					paths = []string{b.config.Revocation.Journal}
				}
				if len(paths) == 0 {
					return usagef(c, "no journal is configured (revocation.journal): name one with --journal FILE")
				}
				return restoreCheck(c.Context(), env, b, paths, apply, output.name == formatJSON)
			})
		},
	}
	command.Flags().StringArrayVar(&paths, "journal", nil, "a `FILE` with the journal of a server; repeatable (default revocation.journal)")
	command.Flags().BoolVar(&apply, "apply", false, "bring back what is missing")
	output.add(command, "text", []string{"text", formatJSON})
	return command
}

func restoreCheck(ctx context.Context, env *environment, b *backend, paths []string, apply, asJSON bool) error {
	entries, epoch, err := readJournals(ctx, b, paths)
	if err != nil {
		return err
	}
	by := manage.Operator(operatorName())
	work := b.manager.PreviewMerge
	if apply {
		unlock, err := withoutServers(b.config, paths)
		if err != nil {
			return err
		}
		defer unlock()
		work = b.manager.MergeRevocations
	}
	merged, err := work(ctx, by, entries, epoch)
	if errors.Is(err, manage.ErrPending) { // of servers that the backup knows
		env.warn([]string{fmt.Sprintf("the backup knows servers that do not answer; if all are stopped, that is as it should be (%v)", err)})
		err = nil
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(env, struct {
			Needed  bool `json:"needed"`
			Applied bool `json:"applied"`
			manage.Merged
		}{merged.Needed(), apply && merged.Needed(), merged})
	} else {
		_, err = io.WriteString(env.stdout, mergeText(merged, apply))
	}
	if err != nil || apply || !merged.Needed() {
		return err
	}
	return exitWith(exitFailure, errors.New("the database lacks what the journals have"),
		"stop every server, run this again with --apply, then start the servers")
}

// readJournals reads the entries of all journals, which have to be of this
// installation, and their highest epoch.
func readJournals(ctx context.Context, b *backend, paths []string) ([]revocation.Entry, int64, error) {
	installation, err := installationOf(ctx, b.db.Reader())
	if err != nil {
		return nil, 0, err
	}
	var journals []*revocation.Recorded
	for _, path := range paths {
		r, err := revocation.ReadJournal(path)
		if err != nil {
			return nil, 0, exitWith(exitFailure, err, "")
		}
		if r.Installation != "" && r.Installation != installation {
			return nil, 0, fmt.Errorf("%w: %s was begun by %s, and this database belongs to %s: name the journals of its own servers",
				revocation.ErrForeign, path, r.Installation, installation)
		}
		journals = append(journals, r)
	}
	return revocation.Combine(journals...)
}

// withoutServers refuses while a server is known to run, and keeps a server off an
// embedded database.
func withoutServers(config *Config, paths []string) (unlock func(), err error) {
	for _, path := range paths {
		used, err := revocation.InUse(path)
		if err != nil {
			return nil, exitWith(exitFailure, err, "")
		}
		if used {
			return nil, exitWith(exitFailure, fmt.Errorf("a server is running with the journal %s", path),
				"stop every server of this database first: one that runs does not see what is merged below the number that it is at")
		}
	}
	return lockEmbedded(config)
}

// mergeText is the answer for people.
func mergeText(m manage.Merged, applied bool) string {
	var b strings.Builder
	did := "missing"
	if applied {
		did = "merged"
	}
	switch {
	case !m.Needed():
		b.WriteString("Nothing is missing: the database has every revocation of the journals.\n")
	case m.Revocations == 0 && len(m.Subjects) == 0:
		fmt.Fprintf(&b, "No revocation is missing, but the journals are ahead of the database: epoch %d, and now %d.\n", m.From.Epoch, m.To.Epoch)
	default:
		fmt.Fprintf(&b, "%s %s: %s", counted(m.Revocations, "revocation"), did, strings.Join(effectsOf(m.Subjects), ", "))
		if m.Renumbered > 0 {
			fmt.Fprintf(&b, "; %d under new numbers, since the database has given theirs to others", m.Renumbered)
		}
		b.WriteString(".\n")
	}
	for _, gap := range m.Gaps {
		fmt.Fprintf(&b, "Unknown: revocations %d to %d, which no journal has: name the journals of the other servers; what expired more than 30 days ago is in none.\n", gap.From, gap.To)
	}
	var reviews []string
	for _, s := range m.Subjects {
		if s.Review != "" {
			reviews = append(reviews, fmt.Sprintf("  %s %s%s %s\n", kindNames[s.Kind], s.ID, inBrackets(s.Name), s.Review))
		}
	}
	if len(reviews) > 0 {
		verb := "need"
		if len(reviews) == 1 {
			verb = "needs"
		}
		fmt.Fprintf(&b, "%d %s review:\n%s", len(reviews), verb, strings.Join(reviews, ""))
	}
	if applied && m.Needed() {
		fmt.Fprintf(&b, "The database is at revocation %d of epoch %d now. Start every server anew.\n", m.To.Sequence, m.To.Epoch)
	}
	return b.String()
}

// kindNames are what people call the kinds.
var kindNames = map[oauth.Revocable]string{
	oauth.RevocableToken: "token", oauth.RevocableKey: "key", oauth.RevocableSubject: "account",
	oauth.RevocableWorkspace: "workspace", oauth.RevocableSigningKey: "signing key",
}

// effectsOf counts what is done to whom, in the order in which it comes.
func effectsOf(subjects []manage.Redone) (texts []string) {
	type group struct {
		kind   oauth.Revocable
		effect manage.Effect
	}
	var order []group
	counts := map[group]int{}
	for _, s := range subjects {
		g := group{s.Kind, s.Effect}
		if counts[g] == 0 {
			order = append(order, g)
		}
		counts[g]++
	}
	for _, g := range order {
		text := counted(counts[g], kindNames[g.kind]) + " " + string(g.effect)
		if g.effect == manage.TokensDenied && g.kind != oauth.RevocableToken {
			text = "older tokens of " + counted(counts[g], kindNames[g.kind]) + " denied"
		}
		texts = append(texts, text)
	}
	return texts
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

func inBrackets(name string) string {
	if name == "" {
		return ""
	}
	return " (" + name + ")"
}
