package simhost

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// dial opens a connection as a process on the host would: containerd's socket, for whom it is told, or a port of a pod.
func (h *Host) dial(ctx context.Context, netw, address, by string) (net.Conn, error) {
	if !h.Up() {
		return nil, errOff
	}
	if netw == "unix" {
		h.cd.mu.Lock()
		l := h.cd.listener
		h.cd.mu.Unlock()
		if address != socket || l == nil {
			return nil, fmt.Errorf("connect to %s: %w", address, syscall.ECONNREFUSED)
		}
		return l.dial(ctx, by)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	at, x := h.world.listening(ap.Addr(), h)
	direct := at != nil && at.address == ap.Addr().String() // hosts lie in one network
	switch {
	case at == nil || !at.Up():
		return nil, fmt.Errorf("connect to %s: %w", address, syscall.EHOSTUNREACH)
	case at != h && (!direct && !h.kernel.reaches(ap.Addr()) || h.world.separated(h.name, at.name)):
		return nil, fmt.Errorf("connect to %s: %w", address, syscall.EHOSTUNREACH)
	case len(x) == 0:
		return nil, fmt.Errorf("connect to %s: %w", address, syscall.ECONNREFUSED)
	}
	answer := x[0].Answer
	if answer == nil {
		answer = func(int, string) Answer { return Answer{} }
	}
	if a := answer(int(ap.Port()), ""); a.Closed {
		return nil, fmt.Errorf("connect to %s: %w", address, syscall.ECONNREFUSED)
	}
	here, there := net.Pipe()
	go serveHTTP(there, int(ap.Port()), answer)
	return here, nil
}

// listening finds the host that has an address, and the containers that run behind it.
func (w *World) listening(ip netip.Addr, from *Host) (*Host, []Behaviour) {
	if ip.IsLoopback() {
		ip = netip.MustParseAddr(from.address)
	}
	for _, h := range append([]*Host{from}, w.hosts...) {
		h.cd.mu.Lock()
		for _, b := range h.cd.boxes {
			if !b.ready || b.ip != ip && !(hostNetwork(b) && h.address == ip.String()) {
				continue
			}
			var all []Behaviour
			for _, id := range sortedKeys(h.cd.containers) {
				if x := h.cd.containers[id]; x.box == b.id && x.state == runtimev1.ContainerState_CONTAINER_RUNNING {
					all = append(all, x.what)
				}
			}
			h.cd.mu.Unlock()
			return h, all
		}
		h.cd.mu.Unlock()
		if h.address == ip.String() {
			return h, nil
		}
	}
	return nil, nil
}

// serveHTTP answers one connection. What is no HTTP gets no answer.
func serveHTTP(c net.Conn, port int, answer func(int, string) Answer) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		a := answer(port, req.URL.Path)
		if a.After > 0 {
			time.Sleep(a.After)
		}
		if a.Status == 0 {
			a.Status = http.StatusOK
		}
		var b strings.Builder
		fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s", a.Status, http.StatusText(a.Status), strconv.Itoa(len(a.Body)), a.Body)
		if _, err := c.Write([]byte(b.String())); err != nil {
			return
		}
		if req.Close {
			return
		}
	}
}
