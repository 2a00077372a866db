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
	files map[string]string   // the service whose port a file has given, by the file's name
	ports map[int]*healthPort // by number
	group sync.WaitGroup
}

// healthPort is one port that is answered.
type healthPort struct {
	key    string // "namespace/name"
	pods   atomic.Int64
	server *http.Server
}

// follow answers until the context ends.
func (h *health) follow(ctx context.Context) error {
	h.files, h.ports = map[string]string{}, map[int]*healthPort{}
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
			h.forget(name, 0)
		}
	}
	return nil
}

// take takes over what a file says. One without a health check port gives up the one that it had.
func (h *health) take(name, path string) {
	key, port, pods, err := readHealth(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Error("rules not read", "file", path, "err", err)
		return
	}
	h.forget(name, port)
	if port == 0 {
		return
	}
	p := h.ports[port]
	if p == nil || p.key != key {
		if p != nil {
			h.close(port)
		}
		if p, err = h.open(port, key); err != nil {
			h.log.Error("health check port is not answered", "service", key, "err", err)
			return
		}
	}
	p.pods.Store(int64(pods))
	h.files[name] = key
}

// forget gives up the port that a file has given, unless it is the one to keep.
func (h *health) forget(name string, keep int) {
	key, ok := h.files[name]
	if !ok {
		return
	}
	delete(h.files, name)
	for port, p := range h.ports {
		if p.key == key && port != keep {
			h.close(port)
		}
	}
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

// readHealth reads the remarks at the top of a file of rules. The port is 0 where the service has none.
func readHealth(path string) (key string, port, pods int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, 0, err
	}
	defer f.Close()
	key, port, pods, err = parseHealth(f)
	return key, port, pods, err
}

func parseHealth(r io.Reader) (key string, port, pods int, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] != "#" {
			break
		}
		switch {
		case len(words) == 4 && words[1] == "berth":
			key = words[2]
		case len(words) == 4 && words[1] == api.NoteHealth:
			var errPort, errPods error
			port, errPort = strconv.Atoi(words[2])
			pods, errPods = strconv.Atoi(words[3])
			if err := errors.Join(errPort, errPods); err != nil {
				return "", 0, 0, err
			}
			if port < 1 || port > 65535 || pods < 0 || !strings.Contains(key, "/") {
				return "", 0, 0, fmt.Errorf("%q is no health check port", lines.Text())
			}
			return key, port, pods, nil
		}
	}
	if err := lines.Err(); !errors.Is(err, bufio.ErrTooLong) { // a list of addresses, which comes later
		return key, 0, 0, err
	}
	return key, 0, 0, nil
}
