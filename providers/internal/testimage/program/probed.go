package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// probed serves what probes ask for, each in three ways:
//
//	8080, 8443  HTTP and HTTPS: /ok, /bad (500), /slow (no answer), /away (to another host)
//	9090        gRPC health: services ok (and the whole server), bad, slow
//	9092        TCP whose connections are never taken up
func probed([]string) int {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad", http.StatusInternalServerError) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
	})
	go func() { log.Fatal(http.ListenAndServe(":8080", mux)) }()
	go func() {
		s := &http.Server{Addr: ":8443", Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate()}}, ErrorLog: log.New(os.Stderr, "", 0)}
		log.Fatal(s.ListenAndServeTLS("", ""))
	}()
	full()
	l, err := net.Listen("tcp", ":9090")
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	health.RegisterHealthServer(s, healthServer{})
	go func() { log.Fatal(s.Serve(l)) }()
	return sleep(nil)
}

type healthServer struct {
	health.UnimplementedHealthServer
}

// Check answers by the name of the service.
func (healthServer) Check(ctx context.Context, r *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	switch r.GetService() {
	case "", "ok":
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
	case "bad":
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_NOT_SERVING}, nil
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, status.Error(codes.NotFound, "unknown service")
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// full listens where no connection is ever completed: its queue is full, so that the kernel drops what else comes.
func full() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: 9092})
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		log.Fatal(err)
	}
	for range 4 {
		go func() {
			if _, err := net.DialTimeout("tcp", "127.0.0.1:9092", time.Hour); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
}

func appendLine(args []string) int {
	f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintln(f, strings.Join(args[1:], " "))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
