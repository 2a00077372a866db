package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
)

// moody serves on ADDR: its host name on /, and on /ready 200 or 503, as /turn/on and /turn/off have it; on /live likewise, for /kill.
func moody(ctx context.Context, args []string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	var off, dead atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) })
	turn := func(b *atomic.Bool, to bool) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) { b.Store(to) }
	}
	answer := func(b *atomic.Bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if b.Load() {
				http.Error(w, "in a mood", http.StatusServiceUnavailable)
			}
		}
	}
	mux.HandleFunc("/turn/on", turn(&off, false))
	mux.HandleFunc("/turn/off", turn(&off, true))
	mux.HandleFunc("/kill", turn(&dead, true))
	mux.HandleFunc("/ready", answer(&off))
	mux.HandleFunc("/live", answer(&dead))
	server := &http.Server{Addr: args[0], Handler: mux}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}
