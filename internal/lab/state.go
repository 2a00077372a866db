package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

const (
	stateFile    = "lab.json"
	stateVersion = 1 // 1: first version
)

// state is what a lab remembers about itself, in lab.json.
type state struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway"`
	Bridge  string `json:"bridge"`
	User    string `json:"user,omitempty"`
	// Programs is a folder with programs for the hosts.
	Programs string      `json:"programs,omitempty"`
	Owner    *process    `json:"owner,omitempty"` // of an ephemeral lab: the process it dies with
	Nodes    []nodeState `json:"nodes"`
}

type nodeState struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	MAC     string `json:"mac"`
}

// process identifies a process for good: a pid may be used again, a pid with its start time is not.
type process struct {
	Pid   int    `json:"pid"`
	Start string `json:"start"`
}

// running is what is known of a host's present boot, in NODE/running.json.
type running struct {
	process
	Cgroups []string `json:"cgroups"` // folders made for it, one per hierarchy
}

func readState(dir string) (state, error) {
	var s state
	if err := readJSON(filepath.Join(dir, stateFile), &s); err != nil {
		return s, err
	}
	if s.Version != stateVersion {
		return s, fmt.Errorf("%s has version %d, this program knows %d: remove the lab with the program that made it",
			filepath.Join(dir, stateFile), s.Version, stateVersion)
	}
	return s, nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file at once, so that a reader sees the old or the new one.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
