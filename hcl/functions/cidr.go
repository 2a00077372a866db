package functions

import (
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"

	"github.com/apparentlymart/go-cidr/cidr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"
)

var cidrHost = function.New(&function.Spec{
	Description: "The address of a host in a network, by its number; negative numbers count from the end.",
	Params:      []function.Parameter{{Name: "prefix", Type: cty.String}, {Name: "hostnum", Type: cty.Number}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		n, err := parseCIDR(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		num, err := bigArg(args[1], 1)
		if err != nil {
			return cty.NilVal, err
		}
		ip, err := cidr.HostBig(n, num)
		if err != nil {
			return cty.NilVal, err
		}
		return cty.StringVal(ip.String()), nil
	},
})

var cidrNetmask = stringToString("The netmask of an IPv4 network.", func(s string) (string, error) {
	n, err := parseCIDR(s)
	if err != nil {
		return "", err
	}
	if n.IP.To4() == nil {
		return "", errors.New("IPv6 addresses cannot have a netmask")
	}
	return net.IP(n.Mask).String(), nil
})

var cidrSubnet = function.New(&function.Spec{
	Description: "A subnet of a network: the prefix longer by newbits, the number netnum.",
	Params:      []function.Parameter{{Name: "prefix", Type: cty.String}, {Name: "newbits", Type: cty.Number}, {Name: "netnum", Type: cty.Number}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		n, err := parseCIDR(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		bits, err := intArg(args[1], 1)
		if err != nil {
			return cty.NilVal, err
		}
		num, err := bigArg(args[2], 2)
		if err != nil {
			return cty.NilVal, err
		}
		sub, err := cidr.SubnetBig(n, bits, num)
		if err != nil {
			return cty.NilVal, err
		}
		return cty.StringVal(sub.String()), nil
	},
})

var cidrSubnets = function.New(&function.Spec{
	Description: "Consecutive subnets of a network, each longer by its newbits.",
	Params:      []function.Parameter{{Name: "prefix", Type: cty.String}},
	VarParam:    &function.Parameter{Name: "newbits", Type: cty.Number},
	Type:        function.StaticReturnType(cty.List(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		n, err := parseCIDR(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		if len(args) == 1 {
			return cty.ListValEmpty(cty.String), nil
		}
		return consecutive(n, args[1:])
	},
})

func consecutive(n *net.IPNet, newBits []cty.Value) (cty.Value, error) {
	prefix, total := n.Mask.Size()
	var current *net.IPNet
	out := make([]cty.Value, len(newBits))
	for i, v := range newBits {
		bits, err := intArg(v, i+1)
		if err != nil {
			return cty.NilVal, err
		}
		length := prefix + bits
		switch {
		case bits < 1:
			return cty.NilVal, function.NewArgErrorf(i+1, "must extend prefix by at least one bit")
		case bits > 32:
			return cty.NilVal, function.NewArgErrorf(i+1, "may not extend prefix by more than 32 bits")
		case length > total:
			return cty.NilVal, function.NewArgErrorf(i+1, "not enough remaining address space for a subnet with a prefix of %d bits after /%d", length, prefix)
		}
		if current == nil {
			if current, err = cidr.SubnetBig(n, bits, new(big.Int)); err != nil {
				return cty.NilVal, err
			}
		} else {
			next, rollover := cidr.NextSubnet(current, length)
			if rollover || !n.Contains(next.IP) {
				return cty.NilVal, function.NewArgErrorf(i+1, "not enough remaining address space for a subnet with a prefix of %d bits after %s", length, current)
			}
			current = next
		}
		out[i] = cty.StringVal(current.String())
	}
	return cty.ListVal(out), nil
}

var cidrContains = function.New(&function.Spec{
	Description: "Whether a network contains an address or another network.",
	Params:      []function.Parameter{{Name: "containing_prefix", Type: cty.String}, {Name: "contained_ip_or_prefix", Type: cty.String}},
	Type:        function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		outer, err := netip.ParsePrefix(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		inner, err := netip.ParsePrefix(args[1].AsString())
		if err != nil {
			ip, err := netip.ParseAddr(args[1].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(1, "%q is neither an IP address nor a prefix", args[1].AsString())
			}
			inner = netip.PrefixFrom(ip, ip.BitLen())
		}
		if outer.Addr().Is4() != inner.Addr().Is4() {
			return cty.NilVal, fmt.Errorf("address family mismatch: %s and %s", args[0].AsString(), args[1].AsString())
		}
		return cty.BoolVal(outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())), nil
	},
})

// parseCIDR reads a prefix. As in Terraform, IPv4 octets may have leading zeros, which count as decimal.
func parseCIDR(s string) (*net.IPNet, error) {
	if _, n, err := net.ParseCIDR(s); err == nil {
		return n, nil
	}
	_, n, err := net.ParseCIDR(withoutLeadingZeros(s))
	if err != nil {
		return nil, fmt.Errorf("invalid CIDR expression: invalid CIDR address: %s", s)
	}
	return n, nil
}

func withoutLeadingZeros(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		first := i == 0 || s[i-1] == '.'
		if first && s[i] == '0' && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' {
			s = s[:i] + "." + s[i+1:] // the next digit is first now
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

func bigArg(v cty.Value, position int) (*big.Int, error) {
	var n *big.Int
	if err := gocty.FromCtyValue(v, &n); err != nil {
		return nil, function.NewArgError(position, err)
	}
	return n, nil
}
