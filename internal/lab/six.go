package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// sixOf is the IPv6 address beside an address of the lab's network: fd00:90 and the parts of the IPv4 one.
func sixOf(address string) string {
	a := netip.MustParseAddr(address).As4()
	return netip.MustParseAddr(fmt.Sprintf("fd00:%x:%x:%x::%x", a[0], a[1], a[2], a[3])).String()
}

// haveIPv6 reports whether the machine has IPv6: hosts have it then, too.
func haveIPv6() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && strings.TrimSpace(string(b)) == "0"
}

// Address6 is the host's IPv6 address; "" where the machine has none.
func (n *Node) Address6() string {
	if !haveIPv6() {
		return ""
	}
	return sixOf(n.Address)
}

// knownAs are the names under which the host's key is known.
func (n *Node) knownAs() []string {
	names := []string{net.JoinHostPort(n.Address, "22")}
	if six := n.Address6(); six != "" {
		names = append(names, net.JoinHostPort(six, "22"))
	}
	return names
}
