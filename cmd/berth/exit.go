package main

import (
	"context"
	"errors"

	"berth.dev/berth/api"
)

// Exit codes, as Terraform's users know them.
const (
	exitOK          = 0
	exitError       = 1
	exitChanges     = 2   // plan --detailed-exitcode: there are changes
	exitFmt         = 3   // fmt --check: files would change
	exitInterrupted = 130 // ended by an interrupt
)

// exitCode is an error that says nothing and only sets the code: all was said already.
type exitCode int

// Error says the code, for tests.
func (exitCode) Error() string { return "exit" }

// usageError is a mistake on the command line.
type usageError struct{ error }

// fail makes an error with the two parts that people see.
func fail(summary, detail string) error {
	return (api.Diagnostics{{Severity: api.SeverityError, Summary: summary, Detail: detail}}).Err()
}

// codeOf maps an error to an exit code and says whether it still has to be shown.
func codeOf(err error) (code int, show bool) {
	var ec exitCode
	switch {
	case err == nil:
		return exitOK, false
	case errors.As(err, &ec):
		return int(ec), false
	case errors.Is(err, context.Canceled):
		return exitInterrupted, true
	}
	return exitError, true
}
