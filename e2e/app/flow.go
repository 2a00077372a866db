package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// flowed is what hold and flow print at their end.
type flowed struct {
	Pods   []string             `json:"pods"` // who has answered, in the order in which they came
	Last   map[string]time.Time `json:"last"` // when each answered last
	Asked  int                  `json:"asked"`
	Lost   int                  `json:"lost"`            // datagrams without an answer
	Ended  string               `json:"ended,omitempty"` // how the connection ended before it was told to
	Closed time.Time            `json:"closed"`
}

// answered notes an answer, which begins with the version and the name of a pod.
func (f *flowed) answered(text string) {
	_, pod, _ := strings.Cut(strings.TrimSpace(text), " ")
	pod, _, _ = strings.Cut(pod, " ")
	if f.Last == nil {
		f.Last = map[string]time.Time{}
	}
	if _, known := f.Last[pod]; !known {
		f.Pods = append(f.Pods, pod)
	}
	f.Last[pod] = time.Now()
}

// line answers every line of a TCP connection with the version and the pod's name. It goes on for DRAIN after it was told to end.
func line(ctx context.Context, args []string) error {
	drain, err := duration("DRAIN", "0s")
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		time.Sleep(drain)
		l.Close()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return nil // told to end
		}
		go func() {
			defer c.Close()
			for in := bufio.NewScanner(c); in.Scan(); {
				if _, err := fmt.Fprintf(c, "%s %s\n", os.Getenv("VERSION"), name); err != nil {
					return
				}
			}
		}()
	}
}

// hold keeps one TCP connection and asks by it until standard input ends, or the connection does.
func hold(_ context.Context, args []string) error {
	c, err := net.DialTimeout("tcp", args[0], 10*time.Second)
	if err != nil {
		return err
	}
	f, in, end := flowed{}, bufio.NewReader(c), untilStdinEnds()
	for !ended(end, 10*time.Millisecond) {
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		f.Asked++
		_, err := io.WriteString(c, "?\n")
		text := ""
		if err == nil {
			text, err = in.ReadString('\n')
		}
		if err != nil {
			f.Ended, f.Closed = err.Error(), time.Now()
			<-end
			break
		}
		f.answered(text)
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// flow sends datagrams from one port until standard input ends, and then until one more was answered.
func flow(_ context.Context, args []string) error {
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
	f, end, b := flowed{}, untilStdinEnds(), make([]byte, 1500)
	for more := 5; more > 0; {
		last := ended(end, 10*time.Millisecond)
		if last {
			more--
		}
		f.Asked++
		if _, err := c.Write([]byte("?")); err != nil {
			f.Lost++
			continue
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		n, err := c.Read(b)
		if err != nil {
			f.Lost++
			continue
		}
		f.answered(string(b[:n]))
		if last {
			break
		}
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// untilStdinEnds is closed when there is no more to read.
func untilStdinEnds() <-chan struct{} {
	end := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(end)
	}()
	return end
}

func ended(end <-chan struct{}, pause time.Duration) bool {
	select {
	case <-end:
		return true
	case <-time.After(pause):
		return false
	}
}
