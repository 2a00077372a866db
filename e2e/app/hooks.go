package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// answers is a server for hooks: FILE ADDR TLSADDR. It notes the path /CODE/WHAT of each request, with the scheme, and answers with the code.
func answers(ctx context.Context, args []string) error {
	file := args[0]
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var code int
		var what string
		if _, err := fmt.Sscanf(r.URL.Path, "/%d/%s", &code, &what); err != nil {
			http.NotFound(w, r)
			return
		}
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		if err := addNote(file, fmt.Sprintf("%s %s %d", scheme, what, code)); err != nil {
			code = http.StatusInsufficientStorage
		}
		w.WriteHeader(code)
	})
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	secure := &http.Server{Addr: args[2], TLSConfig: certificate.TLS}
	ended := make(chan error, 2)
	go func() { ended <- http.ListenAndServe(args[1], nil) }()
	go func() { ended <- secure.ListenAndServeTLS("", "") }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

// signals notes the first signal that it gets, by its name, and ends: FILE NAME.
func signals(_ context.Context, args []string) error {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGWINCH)
	if err := addNote(args[0], args[1]+" start"); err != nil {
		return err
	}
	return addNote(args[0], args[1]+" "+unix.SignalName((<-got).(syscall.Signal)))
}

// last writes its last words where they are looked for: FILE CODE TEXT.
func last(_ context.Context, args []string) error {
	var code exitCode
	if _, err := fmt.Sscan(args[1], &code); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(args[0], []byte(strings.Join(args[2:], " ")), 0o644), code)
}

// sick serves on ADDR: FILE NAME ADDR. The first time that it runs it answers 503 to everything.
func sick(ctx context.Context, args []string) error {
	file, name := args[0], args[1]
	if err := addNote(file, name+" start"); err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	well := bytes.Count(text, []byte(" "+name+" start\n")) > 1
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if !well {
			http.Error(w, "not well", http.StatusServiceUnavailable)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- http.ListenAndServe(args[2], nil) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	return addNote(file, name+" term")
}
