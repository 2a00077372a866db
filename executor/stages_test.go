package executor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

func analysisWork(t *testing.T, a api.Analysis) (*providers.Work, *[]string) {
	t.Helper()
	var said []string
	return &providers.Work{
		Step:   &api.Step{Op: api.OpAnalyseCommand, Analysis: &api.AnalysisWork{Analysis: &a, Env: []string{"BERTH_NAME=web"}}},
		Report: func(text string) { said = append(said, text) },
	}, &said
}

// A command runs in the configuration's directory, without a shell, with what it is about in its environment.
func TestAnalyseCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$BERTH_NAME:$OWN:$1\" >>ran\ntest \"$(wc -l <ran)\" -ne 2 || { echo burning; exit 7; }\n"
	if err := os.WriteFile(filepath.Join(dir, "fit.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: dir, Env: append(os.Environ(), "OWN=here")}
	tests := []struct {
		name     string
		analysis api.Analysis
		want     string // in the error; "" for success
		runs     int
	}{
		{"one failure is allowed", api.Analysis{Command: []string{"./fit.sh", "a; rm -rf $HOME"}, Count: 3, FailureLimit: 1, IntervalSeconds: 1}, "", 4},
		{"none is", api.Analysis{Command: []string{"./fit.sh", "a; rm -rf $HOME"}, Count: 3, IntervalSeconds: 1}, "exit status 7: burning (1 of 2 runs failed, 0 may)", 2},
		{"no such program", api.Analysis{Command: []string{"./nothing"}}, "the command of the analysis cannot be run", 0},
		{"too slow", api.Analysis{Command: []string{"sleep", "60"}, TimeoutSeconds: 1}, "no answer within 1s", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			os.Remove(filepath.Join(dir, "ran"))
			work, _ := analysisWork(t, tt.analysis)
			err := analyse(t.Context(), o, work)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			ran, _ := os.ReadFile(filepath.Join(dir, "ran"))
			if want := strings.Repeat("web:here:a; rm -rf $HOME\n", tt.runs); string(ran) != want {
				t.Errorf("it has run as %q, want %q", ran, want)
			}
		})
	}
}

func TestAnalyseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	work, _ := analysisWork(t, api.Analysis{Command: []string{"sleep", "60"}, TimeoutSeconds: 100})
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	if err := analyse(ctx, Options{Env: os.Environ()}, work); !errors.Is(err, context.Canceled) || time.Since(start) > 30*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestPauseFor(t *testing.T) {
	t.Parallel()
	past, soon := time.Now().Add(-time.Hour), time.Now().Add(time.Second)
	for _, tt := range []struct {
		name  string
		pause api.PauseWork
		least time.Duration
	}{
		{"for seconds", api.PauseWork{Seconds: 1}, time.Second},
		{"until then", api.PauseWork{Seconds: 3600, Until: &soon}, 500 * time.Millisecond},
		{"over already", api.PauseWork{Seconds: 3600, Until: &past}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			work := &providers.Work{Step: &api.Step{Op: api.OpPause, Pause: &tt.pause}, Report: func(string) {}}
			if err := pauseFor(t.Context(), Options{}, work); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < tt.least && tt.name != "until then" || took > 30*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}
