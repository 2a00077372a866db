package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// serve answers "VERSION HOSTNAME" on /, the client's address on /from, and the readiness probe on /healthz. It
// becomes ready SLOW after its start, and not before the page GATE was there for it, and goes on answering for DRAIN after it was told to end.
func serve(ctx context.Context, _ []string) error {
	slow, err := duration("SLOW", "0s")
	if err != nil {
		return err
	}
	drain, err := duration("DRAIN", "0s")
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	var draining, shut atomic.Bool
	start := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		if draining.Load() {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprintf(w, "%s %s\n", os.Getenv("VERSION"), name)
	})
	mux.HandleFunc("/from", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintln(w, host)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if draining.Load() || shut.Load() || time.Since(start) < slow {
			http.Error(w, "not yet, or no more", http.StatusServiceUnavailable)
		}
	})
	if gate := os.Getenv("GATE"); gate != "" {
		shut.Store(true)
		go func() {
			pass(ctx, gate+"?pod="+name)
			shut.Store(false)
		}()
	}
	server := &http.Server{Addr: cmp.Or(os.Getenv("ADDR"), ":8080"), Handler: mux}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	fmt.Println("serving version", os.Getenv("VERSION"))
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	draining.Store(true)
	time.Sleep(drain)
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	fmt.Println("bye")
	return nil
}

// pass returns when a page is there.
func pass(ctx context.Context, url string) {
	client := &http.Client{Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		if _, err := fetch(client, url); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func duration(name, otherwise string) (time.Duration, error) {
	return time.ParseDuration(cmp.Or(os.Getenv(name), otherwise))
}
