package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"berth.dev/berth/api"
)

// AccessError means that the system does not let us at a file.
type AccessError struct {
	Path string
	Err  error
}

// access makes an AccessError of an error that a person can do something about; others stay.
func access(err error, path string) error {
	for _, known := range []error{fs.ErrPermission, fs.ErrNotExist, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.ENOTDIR, syscall.EISDIR} {
		if errors.Is(err, known) {
			return &AccessError{path, err}
		}
	}
	return err
}

func (e *AccessError) Error() string { return e.Err.Error() }

// Unwrap returns the system's error.
func (e *AccessError) Unwrap() error { return e.Err }

// Diagnostic says it to people.
func (e *AccessError) Diagnostic() api.Diagnostic {
	dir := filepath.Dir(e.Path)
	summary, advice := "State directory cannot be used", ""
	switch {
	case errors.Is(e.Err, fs.ErrPermission):
		summary, advice = "State directory is not writable", fmt.Sprintf("Give the user who runs Berth the right to read and write %s and the files berth.state* in it", dir)
	case errors.Is(e.Err, syscall.EROFS):
		summary, advice = "State directory is not writable", "It lies on a read-only file system: mount that for writing"
	case errors.Is(e.Err, syscall.ENOSPC), errors.Is(e.Err, syscall.EDQUOT):
		summary, advice = "No space left for the state", fmt.Sprintf("Free some space on the file system of %s", dir)
	case errors.Is(e.Err, syscall.EISDIR):
		advice = e.Path + " is a directory: remove it"
	default:
		advice = fmt.Sprintf("Create the directory %s", dir)
	}
	return api.Diagnostic{Severity: api.SeverityError, Summary: summary,
		Detail: fmt.Sprintf("%v. %s, or keep the state elsewhere with path in the backend \"local\" block.", e.Err, advice)}
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *AccessError) As(target any) bool {
	t, ok := target.(**api.DiagnosticsError)
	if ok {
		*t = &api.DiagnosticsError{Diagnostics: api.Diagnostics{e.Diagnostic()}}
	}
	return ok
}
