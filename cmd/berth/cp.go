package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	slash "path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"berth.dev/berth/providers/runtime"
)

type cpCommand struct {
	namespace  string
	container  string
	noPreserve bool
}

func newCp(g *globals) *cobra.Command {
	var o cpCommand
	cmd := &cobra.Command{
		Use: "cp SOURCE DESTINATION", Short: "Copy files to and from containers", Args: cobra.ExactArgs(2),
		Long: `Copies a file or a directory between this machine and a container. One of the two is POD:PATH or NAMESPACE/POD:PATH;
POD may also be an address such as deployment.web. Relative paths begin in the container's working directory.

A destination that is a directory gets the source in it, under its name; "DIRECTORY/." as the source means what is in
the directory. Symlinks are copied as they are, and never written through to a place outside of the destination. Devices, pipes and sockets are
left out. The container needs no tar; where it has one, that is used.`,
		Example: "  berth cp page.html web-6d4cf56db6-x2k4p:/srv/\n  berth cp dev/web-6d4cf56db6-x2k4p:/var/log ./log -c shop\n" +
			"  berth cp ./conf/. deployment.web:/etc/app",
		RunE: func(cmd *cobra.Command, args []string) error { return runCp(cmd.Context(), g, args[0], args[1], o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringVarP(&o.container, "container", "c", "", "the `container`; the first one when it is left out")
	f.BoolVar(&o.noPreserve, "no-preserve", false, "in the container, do not set the owners and modes that files have here")
	return cmd
}

// place is one side of a copy. pod is "" for this machine.
type place struct{ namespace, pod, path string }

// parsePlace reads [[NAMESPACE/]POD:]PATH. What begins like a path is one.
func parsePlace(text, namespace string) (place, error) {
	pod, file, remote := strings.Cut(text, ":")
	if !remote || strings.HasPrefix(text, "/") || strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") {
		if text == "" {
			return place{}, errors.New("filepath can not be empty")
		}
		return place{path: text}, nil
	}
	if file == "" {
		return place{}, fmt.Errorf("%q: filepath can not be empty", text)
	}
	if pod == "" {
		return place{}, fmt.Errorf("%q: want POD:PATH, or ./ before the name of a file here", text)
	}
	p := place{namespace, pod, file}
	if ns, name, ok := strings.Cut(pod, "/"); ok {
		if _, kind := kindByWord(ns); !kind && !strings.Contains(ns, ".") {
			p.namespace, p.pod = ns, name
		}
		if strings.Contains(name, "/") {
			return place{}, fmt.Errorf("%q: want [NAMESPACE/]POD:PATH", text)
		}
	}
	return p, nil
}

func runCp(ctx context.Context, g *globals, from, to string, o cpCommand) error {
	src, err1 := parsePlace(from, o.namespace)
	dst, err2 := parsePlace(to, o.namespace)
	if err := errors.Join(err1, err2); err != nil {
		return usageError{err}
	}
	switch {
	case src.pod != "" && dst.pod != "":
		return usageError{errors.New("one of src or dest must be a local file specification")}
	case src.pod == "" && dst.pod == "":
		return usageError{errors.New("one of src or dest must be a remote file specification, POD:PATH")}
	}
	if src.pod == "" {
		if _, err := os.Lstat(g.local(src.path)); err != nil {
			return fail("Not found", fmt.Sprintf("%s doesn't exist in local filesystem: %v.", src.path, errors.Unwrap(err)))
		}
	}
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	far := src
	if far.pod == "" {
		far = dst
	}
	t, err := x.pod(ctx, far.namespace, far.pod)
	if err != nil {
		return err
	}
	name, err := t.container(o.container)
	if err != nil {
		return err
	}
	c, err := t.running(name)
	if err != nil {
		return err
	}
	copier, err := runtime.NewCopier(ctx, t.host, c.ID)
	if err == nil && src.pod == "" {
		err = copyIn(ctx, g, copier, src.path, dst.path, !o.noPreserve)
	} else if err == nil {
		err = copyOut(ctx, g, copier, src.path, dst.path)
	}
	if err != nil && ctx.Err() == nil {
		return fail("Copying failed", fmt.Sprintf("%s to %s (container %s of pod %s): %v.", from, to, name, t.pod.Address.Pod, strings.TrimSuffix(err.Error(), ".")))
	}
	return err
}

// local is a path on this machine, from the directory that the command works in.
func (g *globals) local(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(g.dir, p)
}

// inside reports whether a source means what is in a directory: "DIRECTORY/.", or the root.
func inside(p string) bool {
	return p == "." || p == "/" || strings.HasSuffix(p, "/.")
}

// copyIn packs what is here and has the container unpack it.
func copyIn(ctx context.Context, g *globals, c *runtime.Copier, from, to string, preserve bool) error {
	file, to := g.local(from), c.Abs(to)
	dir, name := slash.Split(to)
	if inside(from) || to == "/" {
		dir, name = to, "."
	}
	if !inside(from) {
		isDir, err := c.IsDir(ctx, to)
		if err != nil {
			return err
		}
		if isDir {
			dir, name = to, filepath.Base(file)
		}
	}
	r, w := io.Pipe()
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		err := pack(ctx, w, file, name, g.err)
		w.CloseWithError(err)
		return err
	})
	both.Go(func() error {
		err := c.Write(ctx, dir, r, preserve)
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		return err
	})
	return firstCause(both.Wait())
}

// copyOut has the container pack, and unpacks here.
func copyOut(ctx context.Context, g *globals, c *runtime.Copier, from, to string) error {
	file := g.local(to)
	if info, err := os.Stat(file); err == nil && info.IsDir() && !inside(from) {
		file = filepath.Join(file, slash.Base(c.Abs(from)))
	}
	if dir := filepath.Dir(file); !isDirHere(dir) {
		return fmt.Errorf("%s is not a directory here", dir)
	}
	r, w := io.Pipe()
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		err := c.Read(ctx, c.Abs(from), w)
		w.CloseWithError(err)
		return err
	})
	both.Go(func() error {
		err := unpack(r, file, slash.Base(c.Abs(from)), g.err)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // what tar adds for its own sake; its error if it has one
		}
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		return err
	})
	return firstCause(both.Wait())
}

func isDirHere(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.IsDir()
}

// firstCause leaves out that the other side of a pipe was closed, which only follows from the cause.
func firstCause(err error) error {
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(err.Error(), "\n"+io.ErrClosedPipe.Error(), "")
	return errors.New(text)
}
