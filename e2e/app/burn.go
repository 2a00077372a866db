package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// burn serves on an address, and keeps one processor busy for as many percent of the time as it was last asked to: GET /busy/20.
func burn(ctx context.Context, args []string) error {
	var percent atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /busy/{percent}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(strings.TrimSpace(r.PathValue("percent")), 10, 64)
		if err != nil || n < 0 || n > 100 {
			http.Error(w, "want 0 to 100", http.StatusBadRequest)
			return
		}
		percent.Store(n)
		fmt.Fprintln(w, n)
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &http.Server{Addr: args[0], Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { // ends with the program
		<-ctx.Done()
		server.Close()
	}()
	go func() {
		const slice = 20 * time.Millisecond
		for ctx.Err() == nil {
			busy := slice * time.Duration(percent.Load()) / 100
			for end := time.Now().Add(busy); time.Now().Before(end); {
			}
			time.Sleep(slice - busy)
		}
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}
