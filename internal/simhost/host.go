package simhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"berth.dev/berth/internal/simhost/disk"
	"berth.dev/berth/internal/simhost/shell"
)

// Host is one simulated host.
type Host struct {
	world         *World
	name, address string
	disk          *disk.FS

	power   sync.Mutex // held while the power goes or comes
	mu      sync.Mutex
	up      bool
	boots   int
	started time.Time
	ctx     context.Context // ends with the power
	off     context.CancelFunc
	machine *shell.Machine
	kernel  *kernel
	cd      *containerd
	silent  bool            // the operator cannot reach it
	healed  chan struct{}   // closed when silent ends
	slow    time.Duration   // every operation takes this much longer
	before  func(op string) // see Before
	conns   map[net.Conn]bool
	server  *sshServer
	timers  map[string]context.CancelFunc // of systemd, those that are in force
}

func newHost(w *World, name, address string) *Host {
	h := &Host{world: w, name: name, address: address, conns: map[net.Conn]bool{}}
	h.disk = disk.New(w.opts.Disk, now)
	h.cd = newContainerd(h)
	layOut(h)
	return h
}

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// Address is its address in the simulated network.
func (h *Host) Address() string { return h.address }

// Disk is its disk, for tests to look at and to damage.
func (h *Host) Disk() *disk.FS { return h.disk }

// Up reports whether it has power.
func (h *Host) Up() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

// BootID is what /proc/sys/kernel/random/boot_id says: another one after each boot.
func (h *Host) BootID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bootID()
}

func (h *Host) bootID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s boot %d", h.name, h.boots))
	s := hex.EncodeToString(sum[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// PowerOff takes the power away: processes, connections, what was mounted and the kernel's state are gone at once. Of files that were written since
// the last sync, tear says how many bytes are left; nil keeps them whole.
func (h *Host) PowerOff(tear func(name string, size int) int) {
	h.power.Lock()
	defer h.power.Unlock()
	h.mu.Lock()
	if !h.up {
		h.mu.Unlock()
		return
	}
	h.up = false
	h.off()
	conns := h.takeConns()
	h.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // they are gone, whatever comes of it
	}
	h.cd.powerOff()
	h.disk.Cut(tear)
}

func (h *Host) takeConns() []net.Conn {
	var all []net.Conn
	for c := range h.conns {
		all = append(all, c)
	}
	clear(h.conns)
	return all
}

// PowerOn boots the host: the unit that Berth installs runs before containerd starts, as systemd would have it.
func (h *Host) PowerOn() {
	h.power.Lock()
	h.mu.Lock()
	if h.up {
		h.mu.Unlock()
		h.power.Unlock()
		return
	}
	h.boots++
	h.started = now()
	h.ctx, h.off = context.WithCancel(context.Background())
	h.kernel = newKernel(h)
	h.machine = shell.New(h.disk, now, h.world.lib)
	h.machine.Signal = h.cd.signal
	h.timers = map[string]context.CancelFunc{}
	h.machine.Before = func(ctx context.Context, argv []string) error { return h.step(ctx, "program "+argv[0]) }
	bootDisk(h)
	for _, l := range h.kernel.links {
		h.kernel.show(l)
	}
	addPrograms(h)
	ctx, m := h.ctx, h.machine
	h.up = true
	h.mu.Unlock()
	h.power.Unlock() // it may go again while the host boots
	m.Run(ctx, bootScript, nil, nil, shell.Streams{})
	h.startTimers(ctx)
	if ctx.Err() == nil {
		h.cd.powerOn(ctx)
	}
}

// bootScript is what systemd does of what matters here.
const bootScript = `for f in /etc/systemd/system/multi-user.target.wants/*.service; do
	[ -e "$f" ] || continue
	command=$(sed -n 's/^ExecStart=//p' "$f")
	if [ -n "$command" ]; then eval "$command"; fi
done
`

// Reboot takes the power away and gives it back.
func (h *Host) Reboot() {
	h.PowerOff(nil)
	h.PowerOn()
}

// Silence cuts the operator off from the host, which goes on by itself, or ends that. What is under way hangs.
func (h *Host) Silence(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on == h.silent {
		return
	}
	h.silent = on
	if on {
		h.healed = make(chan struct{})
	} else {
		close(h.healed)
	}
}

// heard waits while the host is silenced.
func (h *Host) heard(done <-chan struct{}) bool {
	for {
		h.mu.Lock()
		silent, healed := h.silent, h.healed
		h.mu.Unlock()
		if !silent {
			return true
		}
		select {
		case <-healed:
		case <-done:
			return false
		}
	}
}

// Hangup ends all connections from the operator, as a restarted SSH server would.
func (h *Host) Hangup() {
	h.mu.Lock()
	conns := h.takeConns()
	h.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // they are given up
	}
}

// Slow makes every call to containerd and every program take longer.
func (h *Host) Slow(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slow = by
}

// Before has f called before every operation on the host, by what it is: "program mv", "cri RunPodSandbox", "containerd Write". It may do anything
// to the host: what takes its power away in f ends the operation. nil ends that.
func (h *Host) Before(f func(op string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = f
}

// errOff is what operations end with that the power went from under.
var errOff = errors.New("the host has lost its power")

// step is called before everything that the host does.
func (h *Host) step(ctx context.Context, op string) error {
	h.mu.Lock()
	before, slow, alive := h.before, h.slow, h.ctx
	h.mu.Unlock()
	if before != nil {
		before(op)
	}
	if slow > 0 {
		t := time.NewTimer(slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if alive.Err() != nil {
		return errOff
	}
	return ctx.Err()
}

// Run runs a script on the host, for tests. It returns what was printed and the status.
func (h *Host) Run(script string, args ...string) (string, int) {
	h.mu.Lock()
	ctx, m := h.ctx, h.machine
	h.mu.Unlock()
	var out sink
	status := m.Run(ctx, script, args, nil, shell.Streams{Out: &out, Err: &out})
	return string(out.b), status
}

// sink collects what is written.
type sink struct {
	mu sync.Mutex
	b  []byte
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, p...)
	return len(p), nil
}
