package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/statefile"
	backends "berth.dev/berth/statefile/backend/all"
)

// TestMain lets scripts run the real program as "berth".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": func() { os.Exit(runForScript()) }})
}

func runForScript() int {
	p := &Process{
		Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Interrupts: make(chan os.Signal), Now: time.Now, Version: "0.1.0-test", NoSystem: os.Getenv("BERTH_TEST_SYSTEM") == "",
	}
	if text := os.Getenv("BERTH_TEST_NOW"); text != "" { // so that ages stand still
		now, err := time.Parse(time.RFC3339, text)
		if err != nil {
			panic(err)
		}
		p.Now = func() time.Time { return now }
	}
	if file := os.Getenv("BERTH_TEST_OBSERVED"); file != "" {
		p.Observe = func() (*api.Observation, error) { return readYAML[*api.Observation](file) }
	}
	if file := os.Getenv("BERTH_TEST_USAGE"); file != "" {
		p.Measure = func() (map[string]runtime.HostUsage, error) { return readYAML[map[string]runtime.HostUsage](file) }
	}
	return Main(context.Background(), p)
}

func readYAML[T any](file string) (v T, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return v, err
	}
	return v, yaml.Unmarshal(text, &v)
}

// recordState is the script's command "state FILE": it makes the state that a file describes the one of the current directory.
func recordState(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: state FILE")
	}
	want := &api.State{}
	ts.Check(yaml.Unmarshal([]byte(ts.ReadFile(args[0])), want))
	store, err := backends.Open("local", nil, ts.MkAbs("."), backends.Options{})
	ts.Check(err)
	f, err := statefile.Open(context.Background(), store, statefile.LockInfo{}, statefile.OpenOptions{})
	ts.Check(err)
	want.Lineage, want.Serial = "LINEAGE", f.State().Serial
	*f.State() = *want
	ts.Check(f.Record(api.Delta{}))
	ts.Check(f.Close(context.Background()))
}

// TestScripts runs testdata/script/*.txtar: what a person types and what they see, without hosts.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"state": recordState},
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("NO_COLOR", "")
			return os.CopyFS(filepath.Join(e.WorkDir, "look"), os.DirFS("testdata/look"))
		},
	})
}
