package main

import (
	"os"
	"os/user"

	"berth.dev/berth/statefile"
)

// lockInfo says who takes the lock, for those who find it taken.
func lockInfo(p *Process, operation string) statefile.LockInfo {
	return statefile.LockInfo{
		Operation: operation, Who: whoami(p), Version: p.Version, Created: p.Now().UTC(), PID: os.Getpid(), Job: jobURL(p),
	}
}

// whoami is user@host, as far as the machine tells.
func whoami(p *Process) string {
	name, host := p.Getenv("USER"), "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// jobURL is the address of the CI job that this run is part of, where the CI system says it.
func jobURL(p *Process) string {
	if server, repo, run := p.Getenv("GITHUB_SERVER_URL"), p.Getenv("GITHUB_REPOSITORY"), p.Getenv("GITHUB_RUN_ID"); run != "" {
		return server + "/" + repo + "/actions/runs/" + run
	}
	for _, name := range []string{"CI_JOB_URL", "BUILD_URL", "CIRCLE_BUILD_URL"} { // GitLab, Jenkins, CircleCI
		if url := p.Getenv(name); url != "" {
			return url
		}
	}
	return ""
}
