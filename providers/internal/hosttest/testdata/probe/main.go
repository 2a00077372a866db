// Probe is what tests run in hosts and pods: a server that says who it is and who asks, by HTTP and UDP, and its client.
//
//	probe serve PORT NAME
//	probe get ADDRESS:PORT [TIMES]
//	probe udp ADDRESS:PORT LOCALPORT [TIMES]
//	probe sctp ADDRESS:PORT
//	probe sctp-hear
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2], os.Args[3])
	case "get":
		err = repeat(3, func() (string, error) { return get(os.Args[2]) })
	case "udp":
		err = repeat(4, func() (string, error) { return udp(os.Args[2], os.Args[3]) })
	case "sctp":
		err = sctp(os.Args[2])
	case "sctp-hear":
		err = sctpHear()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func repeat(arg int, f func() (string, error)) error {
	times := 1
	if len(os.Args) > arg {
		times, _ = strconv.Atoi(os.Args[arg])
	}
	for range times {
		s, err := f()
		if err != nil {
			return err
		}
		fmt.Println(s)
	}
	return nil
}

func serve(port, name string) error {
	pc, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(from.String())
			pc.WriteTo([]byte(name+" "+host), from)
		}
	}()
	l, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	os.Stdout.Close()
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, name+" "+host)
	}))
}

func get(address string) (string, error) {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func udp(address, local string) (string, error) {
	to, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(local)
	if err != nil {
		return "", err
	}
	c, err := net.DialUDP("udp4", &net.UDPAddr{Port: port}, to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}
