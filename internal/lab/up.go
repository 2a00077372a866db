package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// Up makes a lab and boots its hosts; when it returns they answer on SSH and CRI. A lab of the same name is
// removed first, running or not. When Up fails nothing is left.
func Up(ctx context.Context, cfg Config) (*Lab, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := Check(); err != nil {
		return nil, err
	}
	began := time.Now()
	l, err := create(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("make lab %s: %w", cfg.Name, err)
	}
	if err := l.boot(ctx); err != nil {
		down := l.Down(context.WithoutCancel(ctx))
		return nil, errors.Join(fmt.Errorf("boot lab %s: %w", cfg.Name, err), down)
	}
	cfg.Log.Info("lab is up", "lab", cfg.Name, "nodes", cfg.Nodes, "subnet", l.Subnet(), "took", time.Since(began).Round(time.Millisecond))
	return l, nil
}

// create makes the folder, the bridge and the disks; nothing runs yet.
func create(ctx context.Context, cfg Config) (*Lab, error) {
	unlock, err := lockNewDir(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := realFileSystem(cfg.Dir); err != nil {
		return nil, err
	}

	dir := filepath.Join(cfg.Dir, cfg.Name)
	if err := purge(ctx, dir, cfg.Log); err != nil {
		return nil, fmt.Errorf("remove the old lab: %w", err)
	}
	s, err := newState(cfg)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	l := newLab(dir, s, cfg.Log)
	if err := l.furnish(ctx); err != nil {
		return nil, errors.Join(err, purge(context.WithoutCancel(ctx), dir, cfg.Log))
	}
	return l, nil
}

// newState decides every name and address of a lab.
func newState(cfg Config) (state, error) {
	subnet, err := chooseSubnet(cfg)
	if err != nil {
		return state{}, err
	}
	s := state{
		Version:  stateVersion,
		Name:     cfg.Name,
		Subnet:   subnet.String(),
		Gateway:  hostAddress(subnet, 1).String(),
		Bridge:   bridgeName(filepath.Join(cfg.Dir, cfg.Name)),
		User:     cfg.User,
		Programs: cfg.Programs,
	}
	if cfg.Ephemeral {
		start, err := startTime(os.Getpid())
		if err != nil {
			return state{}, fmt.Errorf("look at this process: %w", err)
		}
		s.Owner = &process{Pid: os.Getpid(), Start: start}
	}
	for i := range cfg.Nodes {
		addr := hostAddress(subnet, 11+i)
		s.Nodes = append(s.Nodes, nodeState{
			Name:    fmt.Sprintf("n%d", i+1),
			Address: addr.String(),
			MAC:     macFor(addr),
		})
	}
	return s, nil
}

// furnish writes everything on disk and makes the bridge.
func (l *Lab) furnish(ctx context.Context) error {
	if err := writeJSON(filepath.Join(l.dir, stateFile), l.state); err != nil {
		return err
	}
	if err := l.makeBridge(ctx); err != nil {
		return err
	}
	keys, err := l.makeKeys()
	if err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	for _, n := range l.nodes {
		if err := n.makeDisk(keys); err != nil {
			return fmt.Errorf("make disk of %s: %w", n.Name, err)
		}
	}
	if err := l.writeInventories(); err != nil {
		return fmt.Errorf("write inventory: %w", err)
	}
	return l.writeSSHConfig()
}

// boot starts all hosts at once.
func (l *Lab) boot(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range l.nodes {
		g.Go(func() error { return n.Start(ctx) })
	}
	return g.Wait()
}
