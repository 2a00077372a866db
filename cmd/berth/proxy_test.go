package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// stateWithNames is one with a service, a headless one with a pod, and one that stands for another name.
func stateWithNames() *api.State {
	object := func(name string, change func(*corev1.ServiceSpec)) *api.Object {
		s := &corev1.Service{}
		s.Namespace, s.Name = "shop", name
		change(&s.Spec)
		return &api.Object{Address: api.Address{Kind: api.KindService, Name: name}, Value: s}
	}
	s := &api.State{Cluster: api.DefaultCluster}
	s.Objects = []*api.Object{
		object("db", func(s *corev1.ServiceSpec) {
			s.ClusterIP, s.Selector = corev1.ClusterIPNone, map[string]string{"app": "db"}
		}),
		object("mail", func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "mx.example.com."
		}),
		object("web", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.20" }),
	}
	s.Pods = []api.PodState{{
		Address: api.Address{Kind: "statefulset", Name: "db", Pod: "db-0"}, Namespace: "shop", IP: "10.244.1.7", Ready: true,
		Labels: map[string]string{"app": "db"}, Spec: &corev1.PodSpec{},
	}}
	return s
}

func TestResolveName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ namespace, name, want string }{
		{"shop", "web", "10.96.0.20"},
		{"default", "web.shop", "10.96.0.20"},
		{"default", "web.shop.svc", "10.96.0.20"},
		{"default", "Web.Shop.svc.Cluster.local.", "10.96.0.20"},
		{"shop", "db", "10.244.1.7"},
		{"default", "db-0.db.shop.svc.cluster.local", "10.244.1.7"},
		{"shop", "10-244-1-7.db", "10.244.1.7"},
		{"shop", "mail", "mx.example.com"},
		{"default", "web", "web"}, // for the node to look up
		{"default", "example.com", "example.com"},
		{"default", "192.0.2.1", "192.0.2.1"},
		{"default", "db-9.db.shop.svc.cluster.local", "error: the service db has no pod db-9 that is ready"},
		{"default", "nope.shop.svc.cluster.local", "error: the state knows no such name of the cluster"},
	} {
		got, err := resolveName(stateWithNames(), tt.namespace, tt.name)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("%s in %s: %q, want %q", tt.name, tt.namespace, got, tt.want)
		}
	}
}

// TestSocks speaks as clients do.
func TestSocks(t *testing.T) {
	t.Parallel()
	connect := func(kind byte, host []byte) []byte {
		b := append([]byte{5, 1, 0, 5, 1, 0, kind}, host...)
		return binary.BigEndian.AppendUint16(b, 80)
	}
	for _, tt := range []struct {
		name   string
		says   []byte
		want   string // where it goes, or what is wrong
		answer []byte // its beginning
	}{
		{"name", connect(3, append([]byte{3}, "web"...)), "web:80", []byte{5, 0, 5, 0}},
		{"IPv4", connect(1, []byte{10, 96, 0, 20}), "10.96.0.20:80", []byte{5, 0, 5, 0}},
		{"IPv6", connect(4, net.ParseIP("fd00::1")), "fd00::1:80", []byte{5, 0, 5, 0}},
		{"refused", connect(3, append([]byte{4}, "away"...)), "no such thing", []byte{5, 0, 5, 5}},
		{"login only", []byte{5, 1, 2}, "log in", []byte{5, 0xff}},
		{"listening", []byte{5, 1, 0, 5, 2, 0, 1, 10, 0, 0, 1, 0, 80}, "no listening", []byte{5, 0, 5, 7}},
		{"another kind of address", []byte{5, 1, 0, 5, 1, 0, 9}, "kind of address 9", []byte{5, 0, 5, 8}},
		{"SOCKS 4", []byte{4, 1, 0, 80, 10, 0, 0, 1}, "version 4", nil},
		{"half a request", []byte{5, 1, 0, 5}, "EOF", []byte{5, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client, server := net.Pipe()
			var went string
			ended := make(chan error, 1)
			go func() {
				defer server.Close()
				ended <- socksServe(t.Context(), server, func(_ context.Context, host string, port uint16) (net.Conn, byte, error) {
					if host == "away" {
						return nil, socksRefused, errors.New("no such thing")
					}
					went = host + ":80"
					near, far := net.Pipe()
					go func() { io.Copy(far, far); far.Close() }()
					return near, socksOK, nil
				})
			}()
			answers := make(chan []byte, 1)
			go func() {
				b := make([]byte, len(tt.answer))
				io.ReadFull(client, b)
				answers <- b
				io.Copy(io.Discard, client)
			}()
			client.Write(tt.says)
			if d := cmp.Diff(tt.answer, <-answers); d != "" && len(tt.answer) > 0 {
				t.Errorf("answer (-want +got):\n%s", d)
			}
			client.Close()
			err := <-ended
			if !bytes.Contains([]byte(went), []byte(tt.want)) && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("went to %q, %v; want %q", went, err, tt.want)
			}
		})
	}
}
