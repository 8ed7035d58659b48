package main

import "testing"

// What a page shows has to be what is printed, but for what it leaves out.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		want, got string
		fit       bool
	}{
		{"a\nb\n", "a\nb", true},
		{"a\n", "a\nb\n", false},
		{"a\n…\n", "a\nb\nc\n", true},
		{"a\n…\n", "a\n", true},
		{"a\n  …\nc\n", "a\nb\nc\n", true},
		{"a\n…\nd\n", "a\nb\nc\n", false},
		{`{"x":"…"}`, `{"x":"1"}`, true},
		{`{"x":"…"}`, "{\"x\":\"1\n2\"}", false},
		{"a.c\n", "abc\n", false},
		{"a\n\nb\n", "a\r\n\r\nb", true},
		{"", "", true},
		{"", "a", false},
	} {
		if got := fits(c.want, c.got); got != c.fit {
			t.Errorf("%q shown and %q printed: %v, want %v", c.want, c.got, got, c.fit)
		}
	}
}

// Each kind of block is what it says.
func TestSteps(t *testing.T) {
	found, err := steps("```sh\nx\n```\n```sh test\na\n```\n```text output\nb\n```\n```yaml file=c.yaml\nd\n```\n" +
		"```sh test until=127.0.0.1:8080\ne\n```\n```console test\n$ f\ng\n$ h\n```\n")
	want := []step{
		{line: 4, text: "a\n", want: "b\n", shown: true},
		{line: 10, text: "d\n", file: "c.yaml"},
		{line: 13, text: "e\n", until: "127.0.0.1:8080"},
		{line: 17, text: "f\n", want: "g\n", shown: true},
		{line: 19, text: "h\n", shown: true},
	}
	if err != nil || len(found) != len(want) {
		t.Fatalf("%+v, error %v", found, err)
	}
	for i := range want {
		if found[i] != want[i] {
			t.Errorf("step %d is %+v, want %+v", i, found[i], want[i])
		}
	}
	if _, err := steps("```sh tset\nx\n```\n"); err == nil {
		t.Error("a block that is misspelled is passed over")
	}
}
