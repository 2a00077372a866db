// Command web is the shop's front: it renders one page from files that a config map holds and from counters that
// the store keeps. It is an example of a server that a rolling update can replace without dropping a request.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if len(os.Args) == 3 && os.Args[1] == "get" { // the image holds nothing else that could fetch a page
		do = func(ctx context.Context) error { return get(ctx, os.Args[2]) }
	}
	if err := do(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	drain, err := time.ParseDuration(cmp.Or(os.Getenv("DRAIN"), "2s"))
	if err != nil {
		return err
	}
	s := &shop{
		config: cmp.Or(os.Getenv("CONFIG"), "/etc/shop"),
		store:  &store{url: os.Getenv("STORE"), token: os.Getenv("STORE_TOKEN"), client: &http.Client{Timeout: 2 * time.Second}},
		pod:    podName(), node: os.Getenv("NODE_NAME"), release: os.Getenv("RELEASE"),
	}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second}
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), ":8080"))
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	log.Printf("release %s listens on %s", s.release, listener.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	return s.shutDown(server, drain)
}

// shutDown ends the server as a load balancer wants it: first say "not ready" and ask clients to come back on
// another connection, while still answering; then stop.
func (s *shop) shutDown(server *http.Server, drain time.Duration) error {
	log.Printf("draining for %s", drain)
	s.draining.Store(true)
	time.Sleep(drain)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	log.Print("bye")
	return nil
}

func podName() string {
	name, err := os.Hostname() // a pod's host name is its name
	if err != nil {
		return "unknown"
	}
	return name
}

// get prints the page at an address.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
