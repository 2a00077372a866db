package functions

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// files are the functions that look at the file system: relative paths are relative to dir, "~" is the home directory.
func files(dir string) map[string]function.Function {
	return map[string]function.Function{
		"abspath": stringToString("The absolute form of a path.", func(p string) (string, error) {
			return filepath.ToSlash(Absolute(dir, p)), nil
		}),
		"file": fileToString("The content of a file of UTF-8 text.", dir, func(b []byte) (string, error) {
			if !utf8.Valid(b) {
				return "", errors.New("the file's contents are not valid UTF-8; use the filebase64 function to obtain the Base64 encoded contents or the other file functions (e.g. filemd5, filesha256) to obtain file hashing results instead")
			}
			return string(b), nil
		}),
		"filebase64": fileToString("The content of a file in Base64.", dir, func(b []byte) (string, error) {
			return base64.StdEncoding.EncodeToString(b), nil
		}),
		"fileexists": fileExists(dir),
		"fileset":    fileSet(dir),
		"pathexpand": stringToString("The path with a leading ~ replaced by the home directory.", func(p string) (string, error) {
			return expandHome(p)
		}),
	}
}

// Absolute makes a path of the configuration absolute: "~" is the home directory, relative ones are relative
// to dir. A home directory that is not known leaves "~" as it is, so that opening the file says so.
func Absolute(dir, path string) string {
	if p, err := expandHome(path); err == nil {
		path = p
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return filepath.Clean(path)
}

func expandHome(p string) (string, error) {
	if p != "~" && !strings.HasPrefix(p, "~/") {
		if strings.HasPrefix(p, "~") {
			return "", errors.New("cannot expand user-specific home dir")
		}
		return p, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, strings.TrimPrefix(p, "~")), nil
}

// fileToString makes a function from a file's content to a string.
func fileToString(description, dir string, f func([]byte) (string, error)) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: "path", Type: cty.String}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			b, err := ReadFile(dir, args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			s, err := f(b)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(s), nil
		},
	})
}

// ReadFile reads a file that the configuration names. Only regular files have an end that is known: it refuses
// devices, pipes and directories.
func ReadFile(dir, path string) ([]byte, error) {
	name := Absolute(dir, path)
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no file exists at %q; relative paths are relative to the configuration's directory", path)
	case err != nil:
		return nil, fmt.Errorf("read %q: %w", path, reason(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%q is not a regular file, but %s", path, fileType(info.Mode()))
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, reason(err))
	}
	return b, nil
}

// reason is the error of a system call without the path around it.
func reason(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

func fileExists(dir string) function.Function {
	return function.New(&function.Spec{
		Description: "Whether a file exists.",
		Params:      []function.Parameter{{Name: "path", Type: cty.String}},
		Type:        function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			info, err := os.Stat(Absolute(dir, args[0].AsString()))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return cty.False, nil
			case err != nil:
				return cty.NilVal, function.NewArgErrorf(0, "stat %q: %w", args[0].AsString(), reason(err))
			case info.Mode().IsRegular():
				return cty.True, nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "%q is not a regular file, but %s", args[0].AsString(), fileType(info.Mode()))
		},
	})
}

func fileType(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeDevice != 0:
		return "a device node"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a unix domain socket"
	}
	return "something else"
}

func fileSet(dir string) function.Function {
	return function.New(&function.Spec{
		Description: "The files below a directory whose relative paths match a pattern with *, **, ?, [] and {}.",
		Params:      []function.Parameter{{Name: "path", Type: cty.String}, {Name: "pattern", Type: cty.String}},
		Type:        function.StaticReturnType(cty.Set(cty.String)),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			root, pattern := Absolute(dir, args[0].AsString()), filepath.ToSlash(filepath.Clean(args[1].AsString()))
			if !doublestar.ValidatePattern(pattern) {
				return cty.NilVal, function.NewArgErrorf(1, "%q is not a valid pattern", args[1].AsString())
			}
			matches, err := doublestar.Glob(os.DirFS(root), pattern, doublestar.WithFilesOnly())
			if err != nil {
				return cty.NilVal, fmt.Errorf("match %q in %q: %w", args[1].AsString(), args[0].AsString(), err)
			}
			if len(matches) == 0 {
				return cty.SetValEmpty(cty.String), nil
			}
			values := make([]cty.Value, len(matches))
			for i, m := range matches {
				values[i] = cty.StringVal(m)
			}
			return cty.SetVal(values), nil
		},
	})
}

var baseName = stringToString("The last element of a path.", func(p string) (string, error) { return filepath.Base(p), nil })
var dirName = stringToString("The path without its last element.", func(p string) (string, error) { return filepath.Dir(p), nil })
