package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// note adds a line with the time to a file: several processes may.
func note(_ context.Context, args []string) error {
	return addNote(args[0], strings.Join(args[1:], " "))
}

func addNote(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %s\n", time.Now().UnixNano(), text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// step is work that ends: FILE NAME DURATION.
func step(_ context.Context, args []string) error {
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	if err := addNote(args[0], args[1]+" start"); err != nil {
		return err
	}
	time.Sleep(d)
	return addNote(args[0], args[1]+" end")
}

// live serves on ADDR and notes its life: FILE NAME ADDR. It answers /startup after a while, and says when it is asked for
// /startup, /live and /ready for the first time with success.
func live(ctx context.Context, args []string) error {
	file, name := args[0], args[1]
	if err := addNote(file, name+" start"); err != nil {
		return err
	}
	began := time.Now()
	for _, path := range []string{"startup", "live", "ready"} {
		first := sync.OnceValue(func() error { return addNote(file, name+" "+path) })
		http.HandleFunc("/"+path, func(w http.ResponseWriter, _ *http.Request) {
			if path == "startup" && time.Since(began) < 600*time.Millisecond {
				http.Error(w, "not yet", http.StatusServiceUnavailable)
				return
			}
			if err := first(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- http.ListenAndServe(args[2], nil) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if err := addNote(file, name+" term"); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond)
	return addNote(file, name+" end")
}

// tries fails until it has been started N times, then makes FILE.NAME and stays: FILE NAME N CODE.
func tries(ctx context.Context, args []string) error {
	file, name := args[0], args[1]
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	code, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	if err := addNote(file, name+" start"); err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if bytes.Count(text, []byte(" "+name+" start\n")) < n {
		fmt.Println("the database is not there yet")
		return exitCode(code)
	}
	if err := addNote(file+"."+name, "up"); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
