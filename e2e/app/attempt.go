package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// attempt is one pod of a job: DIR FAILURES DURATION. The first so many attempts in a directory fail, the others note that they have
// succeeded, and which index they had.
func attempt(ctx context.Context, args []string) error {
	failures, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	takes, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	n, err := numbered(args[0], "try")
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	fmt.Printf("attempt %d on %s, index %q\n", n, host, os.Getenv("JOB_COMPLETION_INDEX"))
	select {
	case <-ctx.Done():
		return exitCode(143)
	case <-time.After(takes):
	}
	if n < failures {
		fmt.Println("the disk is on fire")
		return exitCode(3)
	}
	_, err = numbered(args[0], "done-"+os.Getenv("JOB_COMPLETION_INDEX")+"-"+host)
	return err
}

// numbered makes a file of the first number that is free.
func numbered(dir, name string) (int, error) {
	for n := 0; ; n++ {
		f, err := os.OpenFile(filepath.Join(dir, name+"-"+strconv.Itoa(n)), os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		return n, errors.Join(err, f.Close())
	}
}
