package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth.dev/berth/hcl"
)

type fmtCommand struct {
	check, diff, recursive bool
	list, write            bool
}

func newFmt(g *globals) *cobra.Command {
	var o fmtCommand
	cmd := &cobra.Command{
		Use: "fmt [FILE|DIR|-]...", Short: "Rewrite configuration files in the standard format",
		Long: `Rewrites *.hcl and *.bvars files in the standard format and names those that changed.
With "-" it reads standard input and writes standard output.`,
		RunE: func(cmd *cobra.Command, args []string) error { return runFmt(g, o, args) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.check, "check", false, "change nothing; exit code 3 when a file is not in the standard format")
	f.BoolVar(&o.diff, "diff", false, "show the differences")
	f.BoolVar(&o.recursive, "recursive", false, "subdirectories too")
	f.BoolVar(&o.list, "list", true, "name the files that are not in the standard format")
	f.BoolVar(&o.write, "write", true, "write the files")
	return cmd
}

func runFmt(g *globals, o fmtCommand, args []string) error {
	if len(args) == 1 && args[0] == "-" {
		src, err := io.ReadAll(g.proc.Stdin)
		if err != nil {
			return err
		}
		out, ds := hcl.Format(src, "<stdin>")
		if ds.HasErrors() {
			return ds.Err()
		}
		if o.check && !bytes.Equal(src, out) {
			return exitCode(exitFmt)
		}
		g.out.Printf("%s", out)
		return nil
	}
	if len(args) == 0 {
		args = []string{"."}
	}
	changed := false
	for _, arg := range args {
		files, err := configFiles(inDir(g.dir, arg), o.recursive)
		if err != nil {
			return fail("No such file or directory", err.Error()+".")
		}
		for _, f := range files {
			c, err := formatFile(g, o, f)
			if err != nil {
				return err
			}
			changed = changed || c
		}
	}
	if o.check && changed {
		return exitCode(exitFmt)
	}
	return nil
}

// configFiles lists the files to format: the path itself, or those in a directory, in order.
func configFiles(path string, recursive bool) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != path && (!recursive || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.IsDir() && (strings.HasSuffix(p, ".hcl") || strings.HasSuffix(p, ".bvars")):
			files = append(files, p)
		}
		return nil
	})
	slices.Sort(files)
	return files, err
}

func formatFile(g *globals, o fmtCommand, path string) (changed bool, err error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	name := path
	if rel, err := filepath.Rel(g.dir, path); err == nil && !strings.HasPrefix(rel, "..") {
		name = rel
	}
	out, ds := hcl.Format(src, name)
	if ds.HasErrors() {
		return false, ds.Err()
	}
	if bytes.Equal(src, out) {
		return false, nil
	}
	if o.list {
		g.out.Println(name)
	}
	if o.diff {
		if err := printDiff(g, name, src, out); err != nil {
			return true, err
		}
	}
	if o.check || !o.write {
		return true, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return true, err
	}
	return true, os.WriteFile(path, out, info.Mode().Perm())
}

// printDiff shows the difference as diff -u does, which every Unix has.
func printDiff(g *globals, name string, before, after []byte) error {
	dir, err := os.MkdirTemp("", "berth-fmt-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for file, text := range map[string][]byte{"old": before, "new": after} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return err
		}
	}
	cmd := exec.Command("diff", "-u", "--label", "old/"+name, "--label", "new/"+name, filepath.Join(dir, "old"), filepath.Join(dir, "new"))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return fmt.Errorf("run diff: %w", err)
	}
	g.out.Printf("%s", out)
	return nil
}
