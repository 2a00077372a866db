package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
	"berth.dev/berth/statefile"
	backends "berth.dev/berth/statefile/backend/all"
	"berth.dev/berth/statefile/seal"
)

// backendRecord says where the state of this directory was kept when it was last written, so that another backend block
// does not look like a cluster of which nothing is there. It lies in .berth/backend.json, which is not shared.
type backendRecord struct {
	Type   string            `json:"type"`
	Config map[string]string `json:"config"`
}

func recordOf(b hcl.Backend) backendRecord { return backendRecord{b.Type, b.Config} }

func (r backendRecord) same(o backendRecord) bool {
	return r.Type == o.Type && maps.Equal(r.Config, o.Config)
}

func (r backendRecord) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(r.Config)) {
		parts = append(parts, fmt.Sprintf("%s = %q", key, r.Config[key]))
	}
	s := fmt.Sprintf("backend %q", r.Type)
	if len(parts) > 0 {
		s += " (" + strings.Join(parts, ", ") + ")"
	}
	return s
}

func recordPath(dir string) string { return filepath.Join(dir, ".berth", "backend.json") }

// readRecord returns nil where nothing was recorded.
func readRecord(dir string) (*backendRecord, error) {
	data, err := os.ReadFile(recordPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r backendRecord
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return nil, fail("Record of the backend cannot be read", fmt.Sprintf("%s: %v. Remove it if the backend block says where the state is.", recordPath(dir), err))
	}
	return &r, nil
}

// write records where the state is now. A directory that cannot be written to goes without.
func (r backendRecord) write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := recordPath(dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// keep writes the record where it is new.
func (r backendRecord) keep(dir string) error {
	if before, err := readRecord(dir); err == nil && before != nil && before.same(r) {
		return nil
	}
	return r.write(dir)
}

// openStore finds the state's home, which must be the one that it had before.
func openStore(g *globals, m *hcl.Module) (statefile.Store, error) {
	b := m.Backend()
	before, err := readRecord(g.dir)
	if err != nil {
		return nil, err
	}
	if now := recordOf(b); before != nil && !before.same(now) {
		return nil, changedBackend(b, *before, now)
	}
	g.store, err = openSealed(g, m, b)
	return g.store, err
}

// openSealed finds a state's home, with the encryption and the retention of the configuration.
func openSealed(g *globals, m *hcl.Module, b hcl.Backend) (statefile.Store, error) {
	store, err := openBackend(g, b)
	if err != nil {
		return nil, err
	}
	if keep, set := m.Retention(); set {
		if r, ok := store.(statefile.Retainer); ok {
			r.Retain(keep.Backups, time.Duration(keep.BackupsMaxAge)*time.Second)
		}
	}
	state, _, err := g.sealers(m)
	if err != nil {
		return nil, err
	}
	return seal.Wrap(store, state), nil
}

// sealers are what encrypts the state and plan files; nil where nothing does. m is nil without a configuration. They are made once, because
// finding a key can take a while on purpose.
func (g *globals) sealers(m *hcl.Module) (state, plan *seal.Sealer, err error) {
	if g.sealed != nil {
		return g.sealed.state, g.sealed.plan, nil
	}
	if m == nil {
		m = &hcl.Module{}
	}
	e, diags := m.Encryption(g.proc.Getenv("BERTH_ENCRYPTION"))
	if diags.HasErrors() {
		return nil, nil, diags.Err()
	}
	state, plan, err = seal.New(e, seal.Source{Dir: g.dir, Getenv: g.proc.Getenv, Env: g.proc.Env, Stderr: g.proc.Stderr})
	if err == nil {
		g.sealed = &sealerPair{state, plan}
	}
	return state, plan, err
}

type sealerPair struct{ state, plan *seal.Sealer }

func changedBackend(b hcl.Backend, before, now backendRecord) error {
	d := api.Diagnostic{Severity: api.SeverityError, Summary: "Backend has changed", Detail: fmt.Sprintf(
		"The state was last kept in %s; the configuration now says %s. Nothing was done. To move the state there: berth init --migrate-state. If it is there already: berth init --reconfigure.", before, now)}
	if !b.Range.IsZero() {
		d.Range = &b.Range
	}
	return (api.Diagnostics{d}).Err()
}

func openBackend(g *globals, b hcl.Backend) (statefile.Store, error) {
	store, err := backends.Open(b.Type, b.Config, g.dir, backends.Options{SSH: g.stateHost})
	if err != nil {
		d := api.Diagnostic{Severity: api.SeverityError, Summary: "Invalid backend", Detail: err.Error()}
		if !b.Range.IsZero() {
			d.Range = &b.Range
		}
		return nil, (api.Diagnostics{d}).Err()
	}
	return store, nil
}

// moveOptions are init's for a backend that has changed.
type moveOptions struct {
	migrate, reconfigure, forceCopy bool
}

// settleBackend brings record and configuration together, moving the state if it was asked for.
func settleBackend(ctx context.Context, g *globals, m *hcl.Module, o moveOptions) error {
	b := m.Backend()
	before, err := readRecord(g.dir)
	if err != nil {
		return err
	}
	now := recordOf(b)
	switch {
	case before == nil || before.same(now):
		return nil
	case o.reconfigure:
		return now.write(g.dir)
	case !o.migrate:
		return changedBackend(b, *before, now)
	}
	from, err := openSealed(g, m, hcl.Backend{Type: before.Type, Config: before.Config})
	if err != nil {
		return err
	}
	to, err := openSealed(g, m, b)
	if err != nil {
		return err
	}
	if !o.forceCopy {
		yes, err := g.confirm(ctx, fmt.Sprintf("Do you want to move the state?\n  from %s\n  to   %s\n  What is in the first place stays there as a copy. Only 'yes' will be accepted.", before, now))
		if err != nil || !yes {
			return err
		}
	}
	if err := moveState(ctx, g, from, to); err != nil {
		return err
	}
	return now.write(g.dir)
}

// moveState copies a state while nobody else can write it.
func moveState(ctx context.Context, g *globals, from, to statefile.Store) (err error) {
	f, err := statefile.Open(ctx, from, lockInfo(g.proc, "init --migrate-state"), statefile.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(ctx)) }()
	data, err := statefile.Export(f.Context(), from, g.proc.Version)
	if err != nil {
		return err
	}
	if data == nil {
		g.out.Println("There was no state to move.")
		return nil
	}
	if _, err := statefile.Push(f.Context(), to, data, lockInfo(g.proc, "init --migrate-state"), statefile.OpenOptions{}, false); err != nil {
		return err
	}
	g.out.Println("The state was moved. The copy in the old place is no longer used: remove it when you no longer need it.")
	return nil
}
