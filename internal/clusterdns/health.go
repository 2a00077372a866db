package clusterdns

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth.dev/berth/api"
)

// rulesSuffix ends the names of files that hold the rules of a service.
const rulesSuffix = ".rules"

// health answers load balancers of others that ask whether this node has ready pods of a service, at a port for each service, in
// kube-proxy's words. What it knows stands at the top of the files in which the service's rules lie: it changes with them.
type health struct {
	path  string // the folder of rules
	log   *slog.Logger
	files map[string][]check  // those that a file has given, by the file's name
	ports map[int]*healthPort // by number
	group sync.WaitGroup
}

// check is what a file says of one service with a health check port.
type check struct {
	key        string // "namespace/name"
	port, pods int
}

// healthPort is one port that is answered.
type healthPort struct {
	key    string // "namespace/name"
	pods   atomic.Int64
	server *http.Server
}

// follow answers until the context ends.
func (h *health) follow(ctx context.Context) error {
	h.files, h.ports = map[string][]check{}, map[int]*healthPort{}
	err := watched{h.path, rulesSuffix, h.log, h.all, h.take}.follow(ctx)
	for port := range h.ports {
		h.close(port)
	}
	h.group.Wait()
	return err
}

// all reads every file again: a port that could not be had is tried again with that.
func (h *health) all() error {
	entries, err := os.ReadDir(h.path)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	here := map[string]bool{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), rulesSuffix) {
			here[e.Name()] = true
			h.take(e.Name(), filepath.Join(h.path, e.Name()))
		}
	}
	for name := range h.files {
		if !here[name] {
			h.forget(name, nil)
		}
	}
	return nil
}

// take takes over what a file says. Services that it no longer names, or with another port, give up those that they had.
func (h *health) take(name, path string) {
	checks, err := readHealth(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Error("rules not read", "file", path, "err", err)
		return
	}
	h.forget(name, checks)
	for _, c := range checks {
		p := h.ports[c.port]
		if p == nil || p.key != c.key {
			if p != nil {
				h.close(c.port)
			}
			if p, err = h.open(c.port, c.key); err != nil {
				h.log.Error("health check port is not answered", "service", c.key, "err", err)
				continue
			}
		}
		p.pods.Store(int64(c.pods))
	}
	if len(checks) > 0 {
		h.files[name] = checks
	}
}

// forget gives up the ports that a file has given and that are not among those to keep.
func (h *health) forget(name string, keep []check) {
	for _, old := range h.files[name] {
		kept := slices.ContainsFunc(keep, func(c check) bool { return c.key == old.key && c.port == old.port })
		if p := h.ports[old.port]; p != nil && p.key == old.key && !kept {
			h.close(old.port)
		}
	}
	delete(h.files, name)
}

func (h *health) open(port int, key string) (*healthPort, error) {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	p := &healthPort{key: key}
	p.server = &http.Server{
		Handler: p, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	p.server.SetKeepAlivesEnabled(false) // the next question may be the next server's
	h.ports[port] = p
	h.group.Go(func() {
		if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			h.log.Error("health check port is not answered", "service", key, "err", err)
		}
	})
	return p, nil
}

func (h *health) close(port int) {
	if err := h.ports[port].server.Close(); err != nil {
		h.log.Warn("health check port was not closed", "port", port, "err", err)
	}
	delete(h.ports, port)
}

// ServeHTTP answers 200 when there are ready pods, else 503, as kube-proxy does.
func (p *healthPort) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	pods := int(p.pods.Load())
	status := http.StatusOK
	if pods == 0 {
		status = http.StatusServiceUnavailable
	}
	var body struct {
		Service struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"service"`
		LocalEndpoints      int  `json:"localEndpoints"`
		ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
	}
	body.Service.Namespace, body.Service.Name, _ = strings.Cut(p.key, "/")
	body.LocalEndpoints, body.ServiceProxyHealthy = pods, true // the file was put in its place when its rules were in force
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(pods))
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // who has asked may be gone
}

// readHealth reads the remarks on services in a file of rules.
func readHealth(path string) ([]check, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseHealth(f)
}

func parseHealth(r io.Reader) ([]check, error) {
	var checks []check
	key := ""
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadSlice('\n')
		words := strings.Fields(string(line))
		switch {
		case len(words) != 4 || words[0] != "#":
		case words[1] == "berth":
			key = words[2]
		case words[1] == api.NoteHealth:
			port, errPort := strconv.Atoi(words[2])
			pods, errPods := strconv.Atoi(words[3])
			if err := errors.Join(errPort, errPods); err != nil {
				return nil, err
			}
			if port < 1 || port > 65535 || pods < 0 || !strings.Contains(key, "/") {
				return nil, fmt.Errorf("%q is no health check port", line)
			}
			checks = append(checks, check{key, port, pods})
		}
		for errors.Is(err, bufio.ErrBufferFull) { // a list of addresses: nothing for us
			_, err = lines.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return checks, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
