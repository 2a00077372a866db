package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCountersOutliveTheProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "counters.log")
	c, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rope", "anchor", "rope"} {
		if _, err := c.add(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	write(t, path, "half a li") // the process died while it wrote

	c, err = open(path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.add("anchor"); n != 2 || err != nil {
		t.Errorf("add: %d, %v; want 2", n, err)
	}
	if d := cmp.Diff(map[string]int64{"rope": 2, "anchor": 2}, c.all()); d != "" {
		t.Error(d)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("rope\nanchor\nrope\nanchor\n", string(got)); d != "" {
		t.Error(d)
	}
}

func TestNamesThatWouldBreakTheLog(t *testing.T) {
	t.Parallel()
	c, err := open(filepath.Join(t.TempDir(), "counters.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "two\nlines"} {
		if _, err := c.add(name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
