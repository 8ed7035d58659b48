package main

import (
	"fmt"
	"regexp"
	"strings"
)

// Pages say what to do in fenced blocks. A word after the language makes a block
// part of a test; GitHub shows only the first word's colours:
//
//	sh test              commands for the reader's terminal
//	sh test until=ADDR   commands for a terminal of their own, which go on running;
//	                     the page goes on when HTTP is answered at ADDR
//	console test         lines that begin with "$ " are commands, what follows one is
//	                     all that it prints
//	yaml file=NAME       what the reader saves as NAME, in whatever language
//	text output          all that the commands before print, in whatever language
//
// In what is printed, … stands for anything on that line, and on a line of its own
// for any lines.

// step is one thing that a page asks of its reader.
type step struct {
	line  int    // of the page
	text  string // commands, or what is in the file
	file  string // save text as this
	until string // run in a terminal of its own until HTTP is answered at this address
	want  string // what it prints
	shown bool   // the page says what it prints
}

// block is a fenced block of a page.
type block struct {
	line int
	info []string
	text string
}

// blockFence begins and ends a block; those in lists are indented.
var blockFence = regexp.MustCompile("^ *(```+)(.*)$")

// blocks lists what is fenced in a page, and the page without it, line by line.
func blocks(page string) (found []block, prose []string) {
	var open *block
	var marks string
	for i, line := range strings.Split(page, "\n") {
		m := blockFence.FindStringSubmatch(line)
		switch {
		case m != nil && open == nil:
			open, marks = &block{line: i + 1, info: strings.Fields(m[2])}, m[1]
		case m != nil && m[1] == marks && strings.TrimSpace(m[2]) == "":
			found, open = append(found, *open), nil
		case open != nil:
			open.text += line + "\n"
		}
		if m != nil || open != nil {
			line = ""
		}
		prose = append(prose, line)
	}
	return found, prose
}

// steps are those of a page, in order.
func steps(page string) (found []step, err error) {
	fenced, _ := blocks(page)
	for _, b := range fenced {
		if len(b.info) < 2 {
			continue
		}
		name, value, _ := strings.Cut(b.info[1], "=")
		switch language := b.info[0]; {
		case name == "file":
			found = append(found, step{line: b.line, text: b.text, file: value})
		case name == "test" && language == "sh":
			until := ""
			if len(b.info) > 2 {
				until = strings.TrimPrefix(b.info[2], "until=")
			}
			found = append(found, step{line: b.line, text: b.text, until: until})
		case name == "test" && language == "console":
			found = append(found, shownSteps(b)...)
		case name == "output" && len(found) > 0 && found[len(found)-1].file == "":
			last := &found[len(found)-1]
			last.want, last.shown = b.text, true
		default:
			return nil, fmt.Errorf("line %d: nobody knows what the block %v is", b.line, b.info)
		}
	}
	return found, nil
}

// shownSteps are the steps of a block that shows commands and what they print.
func shownSteps(b block) (found []step) {
	for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			found = append(found, step{line: b.line + 1 + i, text: command + "\n", shown: true})
		} else if len(found) > 0 {
			found[len(found)-1].want += line + "\n"
		}
	}
	return found
}

// fits says whether what was printed is what a page shows.
func fits(want, got string) bool {
	var pattern strings.Builder
	for line := range strings.Lines(strings.TrimSpace(want) + "\n") {
		line = strings.TrimRight(line, " \n")
		if strings.TrimSpace(line) == "…" {
			pattern.WriteString(`(?s:.*\n)??`)
			continue
		}
		parts := strings.Split(line, "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern.WriteString(strings.Join(parts, ".*") + " *\n")
	}
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(strings.TrimSpace(strings.ReplaceAll(got, "\r", "")) + "\n")
}
