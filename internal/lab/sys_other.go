//go:build !linux

package lab

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// On other systems Check refuses before any of these is called.
var errNotLinux = errors.New("needs Linux")

func newNamespaces() *syscall.SysProcAttr                           { return nil }
func keepOpen(*os.File) (func(), error)                             { return nil, errNotLinux }
func startTime(int) (string, error)                                 { return "", errNotLinux }
func alive(process) bool                                            { return false }
func kill(context.Context, process) error                           { return errNotLinux }
func makeOpaque(string) error                                       { return errNotLinux }
func makeWhiteout(string) error                                     { return errNotLinux }
func realFileSystem(string) error                                   { return errNotLinux }
func lockDir(context.Context, string) (unlock func(), err error)    { return nil, errNotLinux }
func lockNewDir(context.Context, string) (unlock func(), err error) { return nil, errNotLinux }
func hasSysResource() bool                                          { return false }
