package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

func newAuditCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "audit",
		Short: "Look into the record of what happened",
		Long: `Audit is about the record of what happened: what was managed, by whom, and how keys
were used. The record is hash-chained, so that a change of it shows.

list and export ask a server, as your credential may; verify is for the operator on the
host.`,
		Example: `$ tokenbooth audit list --service-account gitlab-ci
$ tokenbooth audit verify`,
	}
	command.AddCommand(newAuditListCommand(env), newAuditExportCommand(env), newAuditVerifyCommand(env))
	return command
}

func newAuditVerifyCommand(env *environment) *cobra.Command {
	var path string
	var asJSON bool
	command := &cobra.Command{
		Use:   "verify [--heads FILE] [--json]",
		Short: "Check that nobody has changed the record",
		Long: `Verify reads the whole record and checks it: each chain of events against itself
and against its head, each batch of exchanges against its event, and all against the
heads that servers have exported to audit.heads. It works on the configured database
itself, so it is for the operator on the host; servers may run meanwhile.

Without exported heads it cannot see that the end of a chain was cut off together
with its head, nor that a chain was written anew as a whole. Check against a copy of
that file which nobody who can change the database can change.

It prints a line for each finding and ends with code 1 if there is one.`,
		Example: `$ tokenbooth audit verify
$ tokenbooth audit verify --heads /mnt/worm/heads.jsonl
$ tokenbooth audit verify --json | jq -r '.findings[].what'`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withManager(c.Context(), env, func(b *backend) error {
				heads, err := exportedHeads(path, b.config.Audit.Heads)
				if err != nil {
					return err
				}
				report, err := audit.Verify(c.Context(), b.db.Reader(), heads)
				if err != nil {
					return err
				}
				return printReport(env, report, asJSON)
			})
		},
	}
	command.Flags().StringVar(&path, "heads", "", "check against the heads in `FILE` (default audit.heads, if that file exists)")
	command.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return command
}

// exportedHeads reads the file that was named, which has to exist, or the one that
// is configured.
func exportedHeads(named, configured string) ([]audit.Head, error) {
	if named != "" {
		return audit.ReadHeads(named)
	}
	if configured == "" {
		return nil, nil
	}
	heads, err := audit.ReadHeads(configured)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return heads, err
}

// printReport says what was found; a finding is a failure.
func printReport(env *environment, r audit.Report, asJSON bool) error {
	if r.Findings == nil {
		r.Findings = []audit.Finding{}
	}
	switch {
	case asJSON:
		if err := printJSON(env, r); err != nil {
			return err
		}
	case len(r.Findings) == 0:
		_, err := fmt.Fprintf(env.stdout, "%d chains, %d events, %d exchanges: whole.\n", r.Chains, r.Events, r.Exchanges)
		return err
	default:
		for _, f := range r.Findings {
			fmt.Fprintf(env.stdout, "%s: %s\n", f.Chain, f.What)
		}
	}
	if len(r.Findings) == 0 {
		return nil
	}
	return exitWith(exitFailure, fmt.Errorf("the record is not whole: %d findings in %d events and %d exchanges", len(r.Findings), r.Events, r.Exchanges),
		"keep the database as it is; deploy/docs/audit.md says what to do")
}
