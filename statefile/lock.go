package statefile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth.dev/berth/api"
)

// LockInfo says who holds the lock, what for and since when. The JSON names are those of Terraform's
// protocol, which servers check; PID and Job are ours.
type LockInfo struct {
	ID        string    // made by Open; what force-unlock asks for
	Operation string    // "apply", "destroy"
	Info      string    // free text
	Who       string    // user@host
	Version   string    // of Berth
	Created   time.Time // UTC
	Path      string    // what is locked
	PID       int       `json:",omitempty"`
	Job       string    `json:",omitempty"` // the address of the CI job
}

// complete fills in what the caller left open and the process knows.
func (i LockInfo) complete() (LockInfo, error) {
	if i.ID == "" {
		id, err := uuid.NewRandom()
		if err != nil {
			return i, fmt.Errorf("make a lock ID: %w", err)
		}
		i.ID = id.String()
	}
	if i.Who == "" {
		i.Who = whoami()
	}
	if i.Created.IsZero() {
		i.Created = time.Now()
	}
	i.Created = i.Created.UTC()
	if i.PID == 0 {
		i.PID = os.Getpid()
	}
	if i.Job == "" {
		i.Job = jobURL(os.Getenv)
	}
	return i, nil
}

func whoami() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}

// jobURL finds the address of the CI job that this process is part of, where its system tells.
func jobURL(getenv func(string) string) string {
	if s, repo, run := getenv("GITHUB_SERVER_URL"), getenv("GITHUB_REPOSITORY"), getenv("GITHUB_RUN_ID"); s != "" && repo != "" && run != "" {
		return s + "/" + repo + "/actions/runs/" + run
	}
	for _, name := range []string{
		"CI_JOB_URL",           // GitLab
		"BUILDKITE_BUILD_URL",  // Buildkite
		"CIRCLE_BUILD_URL",     // CircleCI
		"DRONE_BUILD_LINK",     // Drone
		"CI_PIPELINE_URL",      // Woodpecker
		"TRAVIS_BUILD_WEB_URL", // Travis
		"SEMAPHORE_JOB_URL",    // Semaphore
		"BITRISE_BUILD_URL",    // Bitrise
		"APPVEYOR_URL",         // AppVeyor
		"BUILD_URL",            // Jenkins
		"CODEBUILD_BUILD_URL",  // CodeBuild
		"CM_BUILD_URL",         // Codemagic
	} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// String returns who, what and since when in one line.
func (i LockInfo) String() string {
	if i.Who == "" && i.ID == "" {
		return "another process"
	}
	operation := i.Operation
	if operation == "" {
		operation = "an operation"
	}
	parts := []string{operation}
	if !i.Created.IsZero() {
		parts = append(parts, "since "+i.Created.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	if i.PID != 0 {
		parts = append(parts, fmt.Sprintf("process %d", i.PID))
	}
	if i.Job != "" {
		parts = append(parts, i.Job)
	}
	return i.Who + " (" + strings.Join(parts, ", ") + ")"
}

// LockedError means that another holds the lock. Wait, or tell the user who it is.
type LockedError struct {
	Info LockInfo
	// Heard is how long ago the holder was heard of last, where that is known: by its heartbeat, or else by what it has journaled.
	Heard *time.Duration
	// Advice says what helps with this kind of store when the holder is gone, in a sentence.
	Advice string
}

func (e *LockedError) Error() string {
	s := "the state is locked by " + e.Info.String()
	if e.Info.ID != "" {
		s += ", lock ID " + e.Info.ID
	}
	return s
}

// Diagnostic says it to people.
func (e *LockedError) Diagnostic() api.Diagnostic {
	detail := fmt.Sprintf("It is held by %s.", e.Info)
	if e.Info.ID != "" {
		detail += fmt.Sprintf(" The lock's ID is %s.", e.Info.ID)
	}
	detail += e.heard()
	detail += " Two at a time would undo each other's work, so nothing was done. Try again when the other has finished, or give --lock-timeout=5m to wait for it."
	if e.Advice != "" {
		detail += " " + e.Advice
	}
	return api.Diagnostic{Severity: api.SeverityError, Summary: "State is locked", Detail: detail}
}

// heard tells the age of the heartbeat in a sentence.
func (e *LockedError) heard() string {
	switch {
	case e.Heard != nil:
		return fmt.Sprintf(" It was last heard of %s ago.", max(0, *e.Heard).Round(time.Second))
	case !e.Info.Created.IsZero():
		return fmt.Sprintf(" It has given no sign since it took the lock, %s ago.", max(0, time.Since(e.Info.Created)).Round(time.Second))
	}
	return ""
}

// listen finds the holder's last sign in the journal where its store has no heartbeat. That is a help for people: it may fail.
func (e *LockedError) listen(ctx context.Context, s Store) {
	if e.Heard != nil {
		return
	}
	data, err := s.Journal(ctx)
	if err != nil {
		return
	}
	lines, _, err := splitJournal(data)
	if err != nil || len(lines) < 2 {
		return
	}
	var last record
	if json.Unmarshal(lines[len(lines)-1], &last) == nil && !last.At.IsZero() {
		e.Heard = new(time.Since(last.At))
	}
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *LockedError) As(target any) bool { return asDiagnostics(target, e) }

// asDiagnostics serves the As methods of errors that have a diagnostic.
func asDiagnostics(target any, e interface{ Diagnostic() api.Diagnostic }) bool {
	t, ok := target.(**api.DiagnosticsError)
	if ok {
		*t = &api.DiagnosticsError{Diagnostics: api.Diagnostics{e.Diagnostic()}}
	}
	return ok
}

// acquire takes the lock, waiting for another to release it for as long as opts allow.
func acquire(ctx context.Context, s Store, info LockInfo, opts OpenOptions) (Lease, error) {
	wait, most := time.Second, 16*time.Second
	if w, ok := Find[Waiter](s); ok {
		wait, most = w.LockInterval()
	}
	deadline := time.Now().Add(opts.LockTimeout)
	var told *string
	for {
		lease, err := s.Lock(ctx, info)
		var locked *LockedError
		if !errors.As(err, &locked) {
			return lease, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			locked.listen(ctx, s)
			return nil, err
		}
		if opts.OnWait != nil && (told == nil || *told != locked.Info.ID) {
			opts.OnWait(locked.Info)
			told = &locked.Info.ID
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock: %w", context.Cause(ctx))
		case <-time.After(min(wait, left)):
		}
		wait = min(2*wait, most)
	}
}
