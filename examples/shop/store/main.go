// Command store keeps the shop's counters: a small HTTP server over a file to which every change is appended and
// made durable before it is acknowledged. It serves one directory; two of them must not share it.
package main

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	counters, err := open(filepath.Join(cmp.Or(os.Getenv("DATA"), "/data"), "counters.log"))
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:    cmp.Or(os.Getenv("ADDR"), ":7000"),
		Handler: routes(counters, os.Getenv("STORE_TOKEN")), ReadHeaderTimeout: 5 * time.Second,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	log.Printf("%d counters, listens on %s", len(counters.all()), server.Addr)
	select {
	case err = <-ended:
	case <-ctx.Done():
		stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = server.Shutdown(stopping)
	}
	return errors.Join(err, counters.close())
}

func routes(c *counters, token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.Handle("GET /counters", guard(token, func(w http.ResponseWriter, _ *http.Request) { reply(w, c.all()) }))
	mux.Handle("POST /counters/{name}", guard(token, func(w http.ResponseWriter, r *http.Request) {
		n, err := c.add(r.PathValue("name"))
		if err != nil {
			log.Print(err)
			http.Error(w, "the counter could not be written", http.StatusInternalServerError)
			return
		}
		reply(w, n)
	}))
	return mux
}

// guard lets only those in who know the token.
func guard(token string, next http.HandlerFunc) http.Handler {
	want := []byte("Bearer " + token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			http.Error(w, "wrong token", http.StatusForbidden)
			return
		}
		next(w, r)
	})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print(err)
	}
}
