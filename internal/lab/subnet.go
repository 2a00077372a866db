package lab

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

// Labs take a /24 out of 10.90.0.0 to 10.95.255.255. Below lie podman's networks, above it Kubernetes'
// service network (10.96.0.0/12) and at 10.244.0.0/16 its pods.
const (
	firstSubnet = 10<<24 | 90<<16
	subnetCount = 6 * 256
)

// chooseSubnet takes the subnet asked for, or the first free one from a place that the lab's path decides.
func chooseSubnet(cfg Config) (netip.Prefix, error) {
	taken, err := takenNetworks(cfg.Dir)
	if err != nil {
		return netip.Prefix{}, err
	}
	if cfg.Subnet != "" {
		p, err := netip.ParsePrefix(cfg.Subnet)
		if err != nil || !p.Addr().Is4() || p.Bits() != 24 {
			return netip.Prefix{}, fmt.Errorf("subnet %q: must be an IPv4 /24 such as 10.90.3.0/24", cfg.Subnet)
		}
		if o, used := overlap(p.Masked(), taken); used {
			return netip.Prefix{}, fmt.Errorf("subnet %s is in use on this machine (%s): choose another", p, o)
		}
		return p.Masked(), nil
	}
	return freeSubnet(pathHash(filepath.Join(cfg.Dir, cfg.Name)), taken)
}

// freeSubnet is the first candidate at or after seed that overlaps nothing taken.
func freeSubnet(seed uint32, taken []netip.Prefix) (netip.Prefix, error) {
	for i := range uint32(subnetCount) {
		p := netip.PrefixFrom(addr4(firstSubnet+(seed+i)%subnetCount<<8), 24)
		if _, used := overlap(p, taken); !used {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no free subnet between 10.90.0.0 and 10.95.255.0: give one")
}

func overlap(p netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if p.Overlaps(t) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// takenNetworks are those of the machine's interfaces and routes and those of the other labs in dir, up or not.
func takenNetworks(dir string) ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var taken []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			taken = append(taken, p.Masked())
		}
	}
	if b, err := os.ReadFile("/proc/net/route"); err == nil {
		taken = append(taken, parseRoutes(b)...)
	}
	names, err := List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s, err := readState(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if p, err := netip.ParsePrefix(s.Subnet); err == nil {
			taken = append(taken, p)
		}
	}
	return taken, nil
}

// parseRoutes reads the format of /proc/net/route, leaving out default routes.
func parseRoutes(b []byte) []netip.Prefix {
	var all []netip.Prefix
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) < 8 {
			continue
		}
		dest, err1 := routeField(f[1])
		mask, err2 := routeField(f[7])
		if err1 != nil || err2 != nil || mask == 0 {
			continue
		}
		ones, _ := net.IPMask(binary.BigEndian.AppendUint32(nil, mask)).Size()
		all = append(all, netip.PrefixFrom(addr4(dest), ones))
	}
	return all
}

// routeField reads eight hex digits in the machine's byte order.
func routeField(hexText []byte) (uint32, error) {
	b, err := hex.DecodeString(string(hexText))
	if err != nil || len(b) != 4 {
		return 0, fmt.Errorf("route field %q", hexText)
	}
	// The kernel prints the word as a number; in memory it is in network order.
	printed := binary.BigEndian.Uint32(b)
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, printed)), nil
}

func addr4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}

func hostAddress(p netip.Prefix, host int) netip.Addr {
	a := p.Addr().As4()
	a[3] = byte(host)
	return netip.AddrFrom4(a)
}

// macFor keeps a host's hardware address the same over reboots, so that no neighbour remembers a wrong one.
func macFor(a netip.Addr) string {
	b := a.As4()
	return net.HardwareAddr{0x02, 0xbe, b[0], b[1], b[2], b[3]}.String()
}

func pathHash(path string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(path))
	return h.Sum32()
}

// bridgeName is the same for the same folder, so that a stale bridge is found without the lab's papers.
// Device names have at most 15 characters; a cable is called after its bridge.
func bridgeName(dir string) string { return fmt.Sprintf("bl%08x", pathHash(dir)) }

func cableName(bridge string, index int) string { return fmt.Sprintf("%s-%d", bridge, index+1) }
