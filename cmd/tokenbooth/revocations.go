package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var receiptColumns = []column[admin.Receipt]{
	{name: "sequence", text: func(r admin.Receipt) string { return count(r.Sequence) }},
	{name: "kind", text: func(r admin.Receipt) string { return r.Kind }},
	{name: "subject", text: func(r admin.Receipt) string { return r.Subject }},
	{name: "workspace_id", text: func(r admin.Receipt) string { return r.WorkspaceID }},
	{name: "cause", text: func(r admin.Receipt) string { return r.Cause }},
	{name: "at", at: func(r admin.Receipt) *time.Time { return &r.At }},
	{name: "dead_by", at: func(r admin.Receipt) *time.Time { return &r.DeadBy }},
	{name: "accepts_until", at: func(r admin.Receipt) *time.Time { return r.AcceptsUntil }},
	{name: "caught_up", text: func(r admin.Receipt) string { return tally(r.ReceiptTally) }},
	{name: "others", text: func(r admin.Receipt) string { return tally(r.Others) }},
	{name: "newest", text: func(r admin.Receipt) string {
		return fmt.Sprintf("%d of epoch %d", r.Newest.Sequence, r.Newest.Epoch)
	}},
}

// tally says how many of how many have caught up.
func tally(t admin.ReceiptTally) string {
	return fmt.Sprintf("%d of %d", t.CaughtUp, t.CaughtUp+t.Behind)
}

var verifierReceiptColumns = []column[admin.VerifierReceipt]{
	{name: "name", text: func(v admin.VerifierReceipt) string { return v.Name }},
	{name: "caught_up", text: func(v admin.VerifierReceipt) string { return yesNo(v.CaughtUp) }},
	{name: "accepts_until", at: func(v admin.VerifierReceipt) *time.Time { return v.AcceptsUntil }},
	{name: "sequence", text: func(v admin.VerifierReceipt) string { return count(v.Sequence) }},
	{name: "epoch", text: func(v admin.VerifierReceipt) string { return count(v.Epoch) }},
	{name: "reported_at", at: func(v admin.VerifierReceipt) *time.Time { return &v.ReportedAt }},
	{name: "silent", text: func(v admin.VerifierReceipt) string { return yesNo(v.Silent) }},
	{name: "workspace_id", text: func(v admin.VerifierReceipt) string { return v.WorkspaceID }, detail: true},
}

func newRevocationsCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "revocations",
		Short: "Show who has caught up with a revocation",
		Long: `Revocations shows what became of a revocation: which of the services that verify tokens
on their own refuse what was revoked. It is named by the number that keys revoke shows.`,
		Example: "$ tokenbooth revocations show 4711 --wait=1m",
	}
	command.AddCommand(newRevocationShowCommand(env))
	return command
}

func newRevocationShowCommand(env *environment) *cobra.Command {
	var o apiOptions
	var w waiting
	command := &cobra.Command{
		Use:   "show SEQUENCE [--wait[=DURATION]] [-o FORMAT]",
		Short: "Show who has caught up with a revocation",
		Long: `Show shows a revocation, the verifiers of its workspace and how many of others, and
until when some verifier may take a token that was revoked: "accepts until" is "-" when
none that is known does any more. With --wait it is shown when that is so; see keys
revoke.`,
		Example: `$ tokenbooth revocations show 4711
$ tokenbooth revocations show 4711 -o json | jq -r '.verifiers[] | select(.caught_up | not) | .name'`,
		Args: argumentNames("SEQUENCE"),
		RunE: func(c *cobra.Command, args []string) error {
			seq, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || seq < 1 {
				return usagef(c, "%q is not the number of a revocation, as keys revoke shows it", args[0])
			}
			if err := w.check(c); err != nil {
				return err
			}
			return o.run(c, env, func(r *apiRun) error {
				if err := w.follow(c.Context(), r, seq); err != nil {
					return err
				}
				receipt, err := r.api.Revocation(c.Context(), seq)
				if err != nil {
					return err
				}
				return printReceipt(env, o.format, receipt)
			})
		},
	}
	o.addFlags(command)
	w.add(command)
	return command
}

func printReceipt(env *environment, f outputFormat, r admin.Receipt) error {
	switch f.name {
	case formatJSON:
		return printSafeJSON(env.stdout, r)
	case formatTable:
		if err := printOne(env, f, r, receiptColumns); err != nil || len(r.Verifiers) == 0 {
			return err
		}
		fmt.Fprintln(env.stdout)
		return printTable(env.stdout, r.Verifiers, verifierReceiptColumns)
	}
	return printList(env, f, r.Verifiers, verifierReceiptColumns)
}

// waiting is for how long a command waits for verifiers.
type waiting struct{ longest time.Duration }

// untilDead is longer than any token is good.
const untilDead = "2h"

func (w *waiting) add(c *cobra.Command) {
	flags := c.Flags()
	flags.DurationVar(&w.longest, "wait", 0, "wait until no verifier that is known takes a token that was revoked, at most that `DURATION`")
	flags.Lookup("wait").NoOptDefVal = untilDead
}

func (w *waiting) check(c *cobra.Command) error {
	if w.longest < 0 || c.Flags().Changed("wait") && w.longest == 0 {
		return usagef(c, "--wait: give a duration such as 5m, or none to wait until no token is good")
	}
	return nil
}

// pollInterval is how often the API is asked when it does not hold the answer back.
const pollInterval = 5 * time.Second

// silentWait is how long those are waited for that have been silent for two minutes
// already: one that was cut off may be back, and one that has ended never is.
const silentWait = 2 * time.Minute

// follow waits, if it shall, until no verifier that is known takes tokens that a
// revocation denies, and tells who lacks it whenever that changes.
func (w *waiting) follow(ctx context.Context, r *apiRun, seq int64) error {
	if w.longest == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.longest)
	defer cancel()
	return w.watch(ctx, r.env.stderr, seq, func(hold time.Duration) (receipt admin.Receipt, text string, err error) {
		receipt, err = r.api.Revocation(ctx, seq, admin.Wait(min(hold, r.o.timeout/2)))
		if err != nil {
			text, err = r.passing(err)
			return receipt, text, err
		}
		return receipt, lacking(receipt), nil
	})
}

// watch asks until nobody lacks a revocation any more, which is when the text is
// empty. The answer may be held back for as long as it says.
func (w *waiting) watch(ctx context.Context, out io.Writer, seq int64, ask func(hold time.Duration) (admin.Receipt, string, error)) error {
	told := ""
	hold, next := time.Duration(0), time.Now() // the first answer comes at once, and says who lacks it
	var quiet time.Time                        // since when only silent ones have lacked it
	for {
		receipt, text, err := ask(hold)
		if err != nil {
			return err
		}
		if text == "" {
			fmt.Fprintf(out, "revocation %d: no verifier that is known takes such a token any more\n", seq)
			return nil
		}
		if text != told && ctx.Err() == nil {
			told = text
			fmt.Fprintf(out, "revocation %d: %s\n", seq, text)
		}
		switch {
		case receipt.AcceptsUntil == nil: // there was no answer
		case !onlySilent(receipt):
			quiet = time.Time{}
		case quiet.IsZero():
			quiet = time.Now()
		case time.Since(quiet) >= silentWait:
			return exitWith(exitRetry, fmt.Errorf("revocation %d: only verifiers lack it that have reported nothing for minutes; it is committed and will not be lost", seq),
				"of those that do not run any more, tokenbooth verifiers remove NAME forgets one, in its workspace; others go on reporting when they are back")
		}
		if sleep(ctx, time.Until(next)) != nil {
			return exitWith(exitRetry, fmt.Errorf("revocation %d: after %s not every verifier has caught up; it is committed and will not be lost", seq, w.longest),
				fmt.Sprintf("tokenbooth revocations show %d --wait goes on waiting", seq))
		}
		hold, next = admin.MaxWait, time.Now().Add(pollInterval)
	}
}

// onlySilent reports whether all that lack a revocation are silent, and may have
// ended.
func onlySilent(r admin.Receipt) bool {
	behind := r.Behind + r.Others.Behind
	return behind > 0 && behind == r.Silent+r.Others.Silent
}

// passing is the text of an error that may pass while there is time, and any other
// error.
func (r *apiRun) passing(err error) (string, error) {
	var exit *exitError
	if failure := r.failure(err); errors.As(failure, &exit) && exit.code == exitRetry {
		return "it cannot be asked now: " + failure.Error(), nil
	}
	return "", err
}

// lacking says who may take tokens that are denied; empty: nobody.
func lacking(r admin.Receipt) string {
	if r.AcceptsUntil == nil {
		return ""
	}
	text := "no verifier reports"
	if known := r.CaughtUp + r.Behind + r.Others.CaughtUp + r.Others.Behind; known > 0 {
		text = fmt.Sprintf("%d of %d verifiers lack it: %s", r.Behind+r.Others.Behind, known, strings.Join(lackingNames(r), ", "))
	}
	if onlySilent(r) {
		text += "; all of them are silent and may have ended"
	}
	return text + "; tokens may be taken until " + r.DeadBy.UTC().Format(time.RFC3339)
}

// lackingNames names those behind, as far as they may be named, and counts the rest.
func lackingNames(r admin.Receipt) (names []string) {
	for _, v := range r.Verifiers {
		switch {
		case v.CaughtUp:
		case v.Silent:
			names = append(names, safe(v.Name)+" (silent)")
		default:
			names = append(names, safe(v.Name))
		}
	}
	if more := r.Behind - int64(len(names)); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if r.Others.Behind > 0 {
		names = append(names, fmt.Sprintf("%d of other workspaces", r.Others.Behind))
	}
	return names
}
