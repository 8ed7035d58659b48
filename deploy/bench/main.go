// Command bench measures what an exchange and a verification cost, as multiples of what they
// cannot cost less than, all of it in one run:
//
//	make bench         # the tables of deploy/docs/performance.md
//	make bench-quick   # the core of them
//	make bench-growth  # how cost grows: deploy/docs/scaling.md
//
// It starts the service itself, once with SQLite in memory and once with PostgreSQL
// and Redis, on a core of its own where there are two. BENCH_JSON=path writes the
// figures to a file; figures says what each is.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "floor" {
		return serveFloor(args[1])
	}
	if len(args) > 0 && args[0] == "growth" {
		return growthCommand(args[1:])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := flags.Bool("quick", false, "measure the core only, in 40 seconds")
	program := flags.String("server", "bin/tokenbooth", "the `PROGRAM` to measure")
	guard := flags.Bool("guard", false, "fail when a ratio is far from what it should be")
	to := flags.String("json", os.Getenv("BENCH_JSON"), "write the figures to `FILE` as JSON")
	profile := flags.String("profile", "", "write a CPU profile of the saturated service to `DIRECTORY`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b, err := newBench(*program)
	if err != nil {
		return err
	}
	b.profiles = *profile
	p := whole
	if *short {
		p = quick
	}
	r, err := b.everything(p)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	if *to != "" {
		if err := r.write(*to); err != nil {
			return err
		}
	}
	if *guard {
		return r.figures().guard()
	}
	return nil
}

func newBench(program string) (*bench, error) {
	m, err := newMachine()
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(program) // it runs in directories of its own
	return &bench{machine: m, program: path, say: sayTo(os.Stderr)}, err
}

// report is all that was measured.
type report struct {
	pinned          bool
	alone, together measured // with SQLite, and with PostgreSQL and Redis
	verified        []verified
}

func (b *bench) everything(p plan) (report, error) {
	r := report{pinned: b.pinned}
	withMillion := p
	if p.paced > 0 {
		withMillion.flat = 1_000_000
	}
	var token string
	var set []byte
	var errAlone, errTogether, errVerify error
	r.alone, token, set, errAlone = b.exchanges("embedded", withMillion, func(dir string) ([]string, error) { return embedded(dir), nil })
	if errAlone != nil {
		return r, errAlone
	}
	r.together, _, _, errTogether = b.exchanges("PostgreSQL and Redis", p, func(string) ([]string, error) { return withServers() })
	b.say("verification")
	r.verified, errVerify = verifications(min(p.rounds, 20), 500, token, set)
	b.say("")
	return r, errors.Join(errTogether, errVerify)
}

// sayTo writes progress over itself on a terminal, else as lines.
func sayTo(out *os.File) func(format string, args ...any) {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		switch {
		case terminal:
			fmt.Fprintf(out, "\r\x1b[K%s", line)
		case strings.TrimSpace(line) != "":
			fmt.Fprintln(out, line)
		}
	}
}
