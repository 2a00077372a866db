package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Down powers off every host and removes the lab: processes, devices, cgroups, rules, files. Calling it again does nothing.
func (l *Lab) Down(ctx context.Context) error {
	base := filepath.Dir(l.dir)
	unlock, err := lockDir(ctx, base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove lab %s: %w", l.Name(), err)
	}
	defer unlock()
	if err := purge(ctx, l.dir, l.log); err != nil {
		return fmt.Errorf("remove lab %s: %w", l.Name(), err)
	}
	for _, n := range l.nodes {
		n.hold(nil)
	}
	if base == DefaultDir {
		_ = os.Remove(base) // fails while another lab is in it
	}
	return nil
}

// Remove takes down the lab of that name whatever state it is in, even if its lab.json is gone.
// It does nothing if there is no such lab.
func Remove(ctx context.Context, dir, name string, log *slog.Logger) error {
	c, err := Config{Name: name, Dir: dir, Nodes: 1, Log: log}.complete()
	if err != nil {
		return err
	}
	l := newLab(filepath.Join(c.Dir, c.Name), state{Name: c.Name}, c.Log)
	return l.Down(ctx)
}

// Sweep removes the ephemeral labs in dir whose owner has ended without removing them.
func Sweep(ctx context.Context, dir string, log *slog.Logger) error {
	if dir == "" {
		dir = DefaultDir
	}
	names, err := List(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		s, err := readState(filepath.Join(dir, name))
		if err != nil || s.Owner == nil || alive(*s.Owner) {
			continue
		}
		errs = append(errs, Remove(ctx, dir, name, log))
	}
	return errors.Join(errs...)
}

// purge removes what a lab's folder stands for, and the folder last, so that what fails can be tried again.
// It believes only what it finds: an interrupted Up or Down leaves a part. The caller holds the lock of the folder above.
func purge(ctx context.Context, dir string, log *slog.Logger) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	log.Debug("remove lab", "dir", dir)
	files, err := filepath.Glob(filepath.Join(dir, "*", runningFile))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := powerOffLocked(ctx, f); err != nil {
			return fmt.Errorf("power off %s: %w", filepath.Base(filepath.Dir(f)), err)
		}
	}
	if err := removeBridge(ctx, bridgeName(dir)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// powerOffLocked waits for a Start of the host that is under way, perhaps in another process.
func powerOffLocked(ctx context.Context, file string) error {
	unlock, err := lockDir(ctx, filepath.Dir(file))
	if err != nil {
		return err
	}
	defer unlock()
	return powerOff(ctx, file)
}
