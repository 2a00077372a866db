package servertest

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a bad network before a server: it delays what passes, cuts connections, and lets nothing through for a while.
type Proxy struct {
	troubles atomic.Int64
	listener net.Listener
	dial     func(ctx context.Context) (net.Conn, error)

	mu     sync.Mutex
	delay  time.Duration
	silent chan struct{} // while it is not nil nothing passes; closed when that is over
	open   map[net.Conn]bool
}

// NewProxy stands before the server that dial reaches until the test ends.
func NewProxy(t testing.TB, dial func(ctx context.Context) (net.Conn, error)) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, dial: dial, open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.Heal()
		p.Cut()
		all.Wait()
	})
	return p
}

// Port is where it listens on 127.0.0.1.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Slow delays every piece in either direction.
func (p *Proxy) Slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Silence lets nothing through any more, and tells nobody.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent == nil {
		p.silent = make(chan struct{})
	}
}

// Heal lets everything through again, what has waited included.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent != nil {
		close(p.silent)
		p.silent = nil
	}
}

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
}

// Troubled reports whether each kind of trouble has come.
func (p *Proxy) Troubled() bool { return p.troubles.Load() > 3 }

// Trouble makes the network slow, cuts connections and is silent for up to most at a time, by turns, until the context ends; then it heals.
func (p *Proxy) Trouble(ctx context.Context, chance *rand.Rand, most time.Duration) {
	defer p.Heal()
	defer p.Slow(0)
	for {
		p.Slow(time.Duration(chance.IntN(20)) * time.Millisecond)
		if !wait(ctx, time.Duration(500+chance.IntN(1500))*time.Millisecond) {
			return
		}
		switch p.troubles.Add(1) % 3 {
		case 0:
			p.Cut()
		case 1:
			p.Silence()
			ok := wait(ctx, time.Duration(chance.Int64N(int64(most))))
			p.Heal()
			if !ok {
				return
			}
		case 2:
			p.Silence()
			ok := wait(ctx, time.Duration(chance.Int64N(int64(most))))
			p.Cut() // what was sent meanwhile is lost
			p.Heal()
			if !ok {
				return
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (p *Proxy) serve(in net.Conn) {
	defer in.Close()
	out, err := p.dial(context.Background())
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	p.open[in], p.open[out] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			p.pump(way[0], way[1])
			in.Close()
			out.Close()
		})
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, in)
	delete(p.open, out)
}

func (p *Proxy) pump(from io.Reader, to io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		delay, silent := p.delay, p.silent
		p.mu.Unlock()
		if silent != nil {
			<-silent
		}
		time.Sleep(delay)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
