package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// hear answers every datagram on a port with the pod's name, its version and the sender's address. It goes on for DRAIN after it was told to end.
// Whoever connects to the same port by TCP learns that it is there.
func hear(ctx context.Context, args []string) error {
	c, err := net.ListenPacket("udp4", args[0])
	if err != nil {
		return err
	}
	drain, err := duration("DRAIN", "0s")
	if err != nil {
		return err
	}
	there, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := there.Accept()
			if err != nil {
				return // told to end
			}
			c.Close()
		}
	}()
	go func() {
		<-ctx.Done()
		there.Close()
		time.Sleep(drain)
		c.Close()
	}()
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	b := make([]byte, 1500)
	for {
		_, from, err := c.ReadFrom(b)
		if err != nil {
			return nil // told to end
		}
		host, _, _ := net.SplitHostPort(from.String())
		fmt.Fprintf(os.Stdout, "from %s\n", host)
		if _, err := c.WriteTo([]byte(os.Getenv("VERSION")+" "+name+" "+host), from); err != nil {
			return err
		}
	}
}

// datagram sends one datagram from a port and prints the answer; it asks again a few times, for a packet may get lost.
func datagram(_ context.Context, args []string) error {
	to, err := net.ResolveUDPAddr("udp4", args[0])
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	c, err := net.DialUDP("udp4", &net.UDPAddr{Port: port}, to)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 1500)
	for range 5 {
		if _, err = c.Write([]byte("?")); err != nil {
			continue
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		var n int
		if n, err = c.Read(b); err == nil {
			fmt.Println(string(b[:n]))
			return nil
		}
	}
	return err
}
