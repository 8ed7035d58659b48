package main

import "testing"

// What dev prints signs in as the owner of the demo.
func TestConsoleOfDev(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	b := newTab(t)
	b.open(d.ConsoleURL)
	b.shows("Workspaces")
	b.clean()
	b.accessible()
	b.fits()
	b.clean()
}
