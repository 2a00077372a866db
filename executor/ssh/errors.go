package ssh

import (
	"errors"
	"fmt"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Cause is why a node could not be logged in to: a fixed short phrase.
type Cause string

// The causes. Only NotReached may go away by itself.
const (
	NotReached     Cause = "Host unreachable"
	HostKeyUnknown Cause = "Unknown host key"
	HostKeyChanged Cause = "Changed host key"
	LoginRefused   Cause = "Login refused"
	NotRoot        Cause = "No root access"
	BadSettings    Cause = "Unusable SSH settings"
)

// ConnectError says why a node could not be logged in to, in sentences for people; the last says what to do. It is a
// providers.ErrUnreachable: nothing may be concluded about what runs on the host.
type ConnectError struct {
	Node   string // "" while it is not known
	Cause  Cause
	Detail string
	Err    error // what lies below, or nil
}

// Error names the node and the detail.
func (e *ConnectError) Error() string {
	if e.Node == "" {
		return e.Detail
	}
	return "connect to " + e.Node + ": " + e.Detail
}

// Unwrap makes it a providers.ErrUnreachable.
func (e *ConnectError) Unwrap() []error {
	if e.Err == nil {
		return []error{providers.ErrUnreachable}
	}
	return []error{providers.ErrUnreachable, e.Err}
}

// Diagnostic says the same to people: the cause as its summary, the host, and what to do.
func (e *ConnectError) Diagnostic() api.Diagnostic {
	return api.Diagnostic{Severity: api.SeverityError, Summary: string(e.Cause), Node: e.Node, Detail: e.Detail}
}

// Permanent reports whether trying again is useless until somebody has changed something.
func (e *ConnectError) Permanent() bool { return e.Cause != NotReached }

func refuse(c Cause, err error, format string, args ...any) *ConnectError {
	return &ConnectError{Cause: c, Detail: fmt.Sprintf(format, args...), Err: err}
}

// named puts the node's name into a ConnectError that has none, without touching one that others share.
func named(node string, err error) error {
	var ce *ConnectError
	if errors.As(err, &ce) && ce.Node == "" {
		c := *ce
		c.Node = node
		return &c
	}
	return err
}
