package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reach ADDRESS SIZE sends one packet of that size in all, which must not be cut into parts, to a port where nobody listens: that it is
// refused means that it has arrived. It prints "arrived" or "too large".
func reach(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("reach ADDRESS SIZE")
	}
	size, err := strconv.Atoi(args[1])
	headers, network := 20+8, "udp4"
	if host, _, _ := net.SplitHostPort(args[0]); strings.Contains(host, ":") {
		headers, network = 40+8, "udp6"
	}
	if err != nil || size < headers {
		return fmt.Errorf("%q is no size of a packet", args[1])
	}
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			if network == "udp6" {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
				return
			}
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		})
		return errors.Join(err, failed)
	}}
	conn, err := d.DialContext(ctx, network, args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	for range 5 { // a packet may be lost
		if _, err := conn.Write(make([]byte, size-headers)); errors.Is(err, unix.EMSGSIZE) {
			fmt.Println("too large")
			return nil
		} else if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, unix.ECONNREFUSED) {
			fmt.Println("arrived")
			return nil
		}
	}
	return fmt.Errorf("nobody has refused a packet of %d bytes", size)
}
