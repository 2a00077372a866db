package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// asks SERVER NAME N [PAUSE] asks for the address of a name, one time after the other, and prints how long it took: the median, the 99th
// of a hundred, and the longest, in microseconds. As a resolver does, it asks again when no answer comes within five seconds, once.
func asks(ctx context.Context, args []string) error {
	pause := time.Duration(0)
	if len(args) == 4 {
		var err error
		if pause, err = time.ParseDuration(args[3]); err != nil {
			return err
		}
		args = args[:3]
	}
	if len(args) != 3 {
		return fmt.Errorf("asks SERVER NAME N [PAUSE]")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no number of questions", args[2])
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(args[1]), dns.TypeA)
	conn, err := dns.Dial("udp", args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	took := make([]time.Duration, n)
	client := &dns.Client{Timeout: 5 * time.Second}
	for i := range took {
		q.Id = dns.Id()
		m, rtt, err := client.ExchangeWithConn(q, conn)
		if err != nil {
			m, rtt, err = client.ExchangeWithConn(q, conn)
		}
		if err != nil {
			return err
		}
		if len(m.Answer) == 0 {
			return fmt.Errorf("%s has no address: %s", args[1], dns.RcodeToString[m.Rcode])
		}
		took[i] = rtt
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	slices.Sort(took)
	fmt.Println(took[n/2].Microseconds(), took[n*99/100].Microseconds(), took[n-1].Microseconds())
	return nil
}
