package simhost

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"berth.dev/berth/internal/simhost/shell"
)

// kernel is what a host's kernel keeps of networks, from boot to boot.
type kernel struct {
	h  *Host
	mu sync.Mutex

	links  []*link
	routes []route
	neighs []neighbour
	fdb    []neighbour // address is where the packets go
	tables map[string]*table
}

type link struct {
	name, mac, kind string
	mtu             int
	up              bool
	addrs           []string // with prefix length
	master          string
	vxlan           string // "id 1 local A dev D"
	nolearning      bool
}

type route struct {
	prefix, via, dev string
	onlink           bool
	proto            string
}

type neighbour struct{ address, mac, dev string }

func newKernel(h *Host) *kernel {
	k := &kernel{h: h, tables: map[string]*table{}}
	k.links = []*link{
		{name: "lo", mac: "00:00:00:00:00:00", mtu: 65536, up: true, addrs: []string{"127.0.0.1/8"}},
		{name: "eth0", mac: macOf(h.address), mtu: 1500, up: true, addrs: []string{h.address + "/16"}},
	}
	for _, name := range []string{"nat", "filter", "mangle", "raw"} {
		k.tables[name] = newTable(name)
	}
	return k
}

func macOf(address string) string {
	a := netip.MustParseAddr(address).As4()
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
}

func (k *kernel) link(name string) *link {
	for _, l := range k.links {
		if l.name == name {
			return l
		}
	}
	return nil
}

// add makes a device.
func (k *kernel) add(l *link) {
	k.links = append(k.links, l)
	k.show(l)
}

// show is what the kernel shows of a device.
func (k *kernel) show(l *link) {
	setting(k.h.disk, "/proc/sys/net/ipv4/conf/"+l.name+"/rp_filter", "0")
	setting(k.h.disk, "/sys/class/net/"+l.name+"/mtu", strconv.Itoa(l.mtu))
}

func (k *kernel) drop(name string) {
	k.links = slices.DeleteFunc(k.links, func(l *link) bool { return l.name == name })
	k.routes = slices.DeleteFunc(k.routes, func(r route) bool { return r.dev == name })
	k.neighs = slices.DeleteFunc(k.neighs, func(n neighbour) bool { return n.dev == name })
	k.fdb = slices.DeleteFunc(k.fdb, func(n neighbour) bool { return n.dev == name })
	for _, l := range k.links {
		if l.master == name {
			l.master = ""
		}
	}
}

// reaches reports whether packets for an address of the pod network leave for another host.
func (k *kernel) reaches(ip netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.routes {
		if p, err := netip.ParsePrefix(r.prefix); err == nil && p.Contains(ip) {
			return true
		}
	}
	return false
}

// ip is iproute2's program, as far as scripts use it.
func (k *kernel) ip(p *shell.Process) int {
	args := p.Args[1:]
	var six, one, detail bool
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-4", "-6":
			six = args[0] == "-6"
		case "-o":
			one = true
		case "-d":
			detail = true
		case "-batch":
			return k.batch(p, func(words []string) error { return k.ipCommand(io.Discard, words, six, one, detail) })
		default:
			return p.Fail(255, "Option %q is unknown.", args[0])
		}
		args = args[1:]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ipCommand(p.Out(), args, six, one, detail); err != nil {
		p.Say("%v", err)
		return cmp.Or(codeOf(err), 2)
	}
	return 0
}

// said is an error in the words of a real program.
type said string

func (s said) Error() string { return string(s) }

func says(format string, args ...any) error { return said(fmt.Sprintf(format, args...)) }

// unknown is a word that the simulated program does not know: scripts have to learn of it at once.
type unknown struct{ words []string }

func (u unknown) Error() string {
	return "Error: a simulated host does not know: " + strings.Join(u.words, " ")
}

func codeOf(err error) int {
	if _, ok := err.(unknown); ok {
		return 255
	}
	return 0
}

func (k *kernel) batch(p *shell.Process, do func([]string) error) int {
	b, err := io.ReadAll(p.In())
	if err != nil {
		return p.Fail(1, "%v", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, l := range strings.Split(string(b), "\n") {
		words := strings.Fields(l)
		if len(words) == 0 {
			continue
		}
		if err := do(words); err != nil {
			p.Say("%v", err)
			p.Say("Command failed -:%d", i+1)
			return 1
		}
	}
	return 0
}

// after returns the word that follows another one.
func after(words []string, key string) string {
	for i, w := range words[:max(0, len(words)-1)] {
		if w == key {
			return words[i+1]
		}
	}
	return ""
}

func (k *kernel) ipCommand(w io.Writer, words []string, six, one, detail bool) error {
	if len(words) < 2 {
		return unknown{words}
	}
	object, verb, rest := words[0], words[1], words[2:]
	if six && (verb == "show" || verb == "get") && object != "link" {
		return nil // the hosts have IPv4 only
	}
	switch object {
	case "addr", "address":
		return k.addr(w, verb, rest)
	case "link":
		return k.linkCommand(w, verb, rest, one, detail)
	case "route":
		return k.route(w, verb, rest)
	case "neigh":
		return k.neigh(w, verb, rest)
	}
	return unknown{words}
}

func noDevice(name string) error { return says("Cannot find device %q", name) }

func (k *kernel) addr(w io.Writer, verb string, rest []string) error {
	dev := after(rest, "dev")
	switch verb {
	case "show":
		to := after(rest, "to")
		if dev != "" && k.link(dev) == nil {
			return says("Device %q does not exist.", dev)
		}
		for i, l := range k.links {
			for _, a := range l.addrs {
				if dev != "" && l.name != dev || to != "" && a[:strings.IndexByte(a, '/')] != to {
					continue
				}
				fmt.Fprintf(w, "%d: %s    inet %s scope global %s\\       valid_lft forever preferred_lft forever\n", i+1, l.name, a, l.name)
			}
		}
		return nil
	case "flush", "replace", "add", "del":
		l := k.link(dev)
		if l == nil {
			return noDevice(dev)
		}
		switch verb {
		case "flush":
			l.addrs = nil
		case "del":
			l.addrs = slices.DeleteFunc(l.addrs, func(a string) bool { return a == rest[0] })
		default:
			if !slices.Contains(l.addrs, rest[0]) {
				l.addrs = append(l.addrs, rest[0])
			}
		}
		return nil
	}
	return unknown{append([]string{"addr", verb}, rest...)}
}

func (k *kernel) linkCommand(w io.Writer, verb string, rest []string, one, detail bool) error {
	switch verb {
	case "show":
		dev, master := after(rest, "dev"), after(rest, "master")
		if dev != "" && k.link(dev) == nil {
			return says("Device %q does not exist.", dev)
		}
		for i, l := range k.links {
			if dev != "" && l.name != dev || master != "" && l.master != master {
				continue
			}
			k.showLink(w, i+1, l, one, detail)
		}
		return nil
	case "del", "delete":
		dev := rest[len(rest)-1]
		if k.link(dev) == nil {
			return noDevice(dev)
		}
		k.drop(dev)
		return nil
	case "add":
		if after(rest, "type") != "vxlan" {
			return unknown{append([]string{"link", verb}, rest...)}
		}
		if k.link(rest[0]) != nil {
			return says("RTNETLINK answers: File exists")
		}
		mtu, err := strconv.Atoi(after(rest, "mtu"))
		if err != nil || k.link(after(rest, "dev")) == nil {
			return noDevice(after(rest, "dev"))
		}
		k.add(&link{
			name: rest[0], mac: after(rest, "address"), mtu: mtu, kind: "vxlan",
			vxlan: fmt.Sprintf("vxlan id %s local %s dev %s srcport 0 0 dstport %s", after(rest, "id"), after(rest, "local"), after(rest, "dev"), after(rest, "dstport")), nolearning: slices.Contains(rest, "nolearning"),
		})
		return nil
	case "set":
		return k.setLink(rest)
	}
	return unknown{append([]string{"link", verb}, rest...)}
}

func (k *kernel) showLink(w io.Writer, n int, l *link, one, detail bool) {
	flags := "BROADCAST,MULTICAST"
	if l.up {
		flags += ",UP,LOWER_UP"
	}
	sep := "\n    "
	if one {
		sep = "\\    "
	}
	master := ""
	if l.master != "" {
		master = " master " + l.master
	}
	fmt.Fprintf(w, "%d: %s: <%s> mtu %d qdisc noqueue%s state UNKNOWN mode DEFAULT group default%slink/ether %s brd ff:ff:ff:ff:ff:ff", n, l.name, flags, l.mtu, master, sep, l.mac)
	if detail && l.vxlan != "" {
		learning := ""
		if l.nolearning {
			learning = " nolearning"
		}
		fmt.Fprintf(w, "%s%s%s ttl auto ageing 300", sep, l.vxlan, learning)
	}
	fmt.Fprintln(w)
}

func (k *kernel) setLink(rest []string) error {
	if rest[0] == "dev" {
		rest = rest[1:]
	}
	l := k.link(rest[0])
	if l == nil {
		return noDevice(rest[0])
	}
	rest = rest[1:]
	for len(rest) > 0 {
		switch rest[0] {
		case "up", "down":
			l.up = rest[0] == "up"
			rest = rest[1:]
			continue
		case "address":
			l.mac = rest[1]
		case "mtu":
			n, err := strconv.Atoi(rest[1])
			if err != nil {
				return says("Error: argument %q is wrong: Invalid \"mtu\" value", rest[1])
			}
			l.mtu = n
		case "master":
			l.master = rest[1]
		case "addrgenmode":
		default:
			return unknown{append([]string{"link", "set"}, rest...)}
		}
		rest = rest[2:]
	}
	return nil
}

func (k *kernel) route(w io.Writer, verb string, rest []string) error {
	proto := after(rest, "proto")
	switch verb {
	case "get":
		fmt.Fprintf(w, "%s via 10.77.255.254 dev eth0 src %s uid 0 \\    cache\n", rest[0], k.h.address)
		return nil
	case "show":
		for _, r := range k.routes {
			if proto != "" && r.proto != proto {
				continue
			}
			fmt.Fprintf(w, "%s via %s dev %s", r.prefix, r.via, r.dev)
			if r.onlink {
				fmt.Fprint(w, " onlink")
			}
			fmt.Fprintln(w, " ")
		}
		return nil
	case "replace", "add":
		r := route{rest[0], after(rest, "via"), after(rest, "dev"), slices.Contains(rest, "onlink"), proto}
		l := k.link(r.dev)
		switch {
		case l == nil:
			return noDevice(r.dev)
		case !l.up:
			return says("Error: Device for nexthop is not up.")
		}
		k.routes = append(slices.DeleteFunc(k.routes, func(o route) bool { return o.prefix == r.prefix }), r)
		slices.SortFunc(k.routes, func(a, b route) int { return strings.Compare(a.prefix, b.prefix) })
		return nil
	case "del":
		n := len(k.routes)
		via, dev := after(rest, "via"), after(rest, "dev")
		k.routes = slices.DeleteFunc(k.routes, func(r route) bool {
			return r.prefix == rest[0] && (via == "" || r.via == via) && (dev == "" || r.dev == dev) && (proto == "" || r.proto == proto)
		})
		if len(k.routes) == n {
			return says("RTNETLINK answers: No such process")
		}
		return nil
	}
	return unknown{append([]string{"route", verb}, rest...)}
}

func (k *kernel) neigh(w io.Writer, verb string, rest []string) error {
	dev := after(rest, "dev")
	switch verb {
	case "show":
		if k.link(dev) == nil {
			return noDevice(dev)
		}
		for _, n := range k.neighs {
			if n.dev == dev {
				fmt.Fprintf(w, "%s lladdr %s PERMANENT \n", n.address, n.mac)
			}
		}
		return nil
	case "replace":
		if k.link(dev) == nil {
			return noDevice(dev)
		}
		n := neighbour{rest[0], after(rest, "lladdr"), dev}
		k.neighs = append(slices.DeleteFunc(k.neighs, func(o neighbour) bool { return o.address == n.address && o.dev == dev }), n)
		slices.SortFunc(k.neighs, func(a, b neighbour) int { return strings.Compare(a.address, b.address) })
		return nil
	case "del":
		k.neighs = slices.DeleteFunc(k.neighs, func(o neighbour) bool { return o.address == rest[0] && o.dev == dev })
		return nil
	}
	return unknown{append([]string{"neigh", verb}, rest...)}
}

// bridge is iproute2's program for forwarding entries.
func (k *kernel) bridge(p *shell.Process) int {
	args := p.Args[1:]
	if len(args) > 0 && args[0] == "-batch" {
		return k.batch(p, func(words []string) error { return k.fdbCommand(io.Discard, words) })
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fdbCommand(p.Out(), args); err != nil {
		p.Say("%v", err)
		return 2
	}
	return 0
}

func (k *kernel) fdbCommand(w io.Writer, words []string) error {
	if len(words) < 3 || words[0] != "fdb" {
		return unknown{words}
	}
	dev := after(words, "dev")
	if k.link(dev) == nil {
		return noDevice(dev)
	}
	switch words[1] {
	case "show":
		for _, n := range k.fdb {
			if n.dev == dev {
				fmt.Fprintf(w, "%s dst %s self permanent\n", n.mac, n.address)
			}
		}
		return nil
	case "replace":
		n := neighbour{after(words, "dst"), words[2], dev}
		k.fdb = append(slices.DeleteFunc(k.fdb, func(o neighbour) bool { return o.mac == n.mac && o.dev == dev }), n)
		slices.SortFunc(k.fdb, func(a, b neighbour) int { return strings.Compare(a.mac, b.mac) })
		return nil
	case "del":
		k.fdb = slices.DeleteFunc(k.fdb, func(o neighbour) bool { return o.mac == words[2] && o.dev == dev })
		return nil
	}
	return unknown{words}
}
