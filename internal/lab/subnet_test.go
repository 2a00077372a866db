package lab

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFreeSubnet(t *testing.T) {
	all := netip.MustParsePrefix("10.88.0.0/13") // 10.88 to 10.95
	tests := []struct {
		name  string
		seed  uint32
		taken []netip.Prefix
		want  string
	}{
		{"first", 0, nil, "10.90.0.0/24"},
		{"last", subnetCount - 1, nil, "10.95.255.0/24"},
		{"seed wraps", subnetCount + 5, nil, "10.90.5.0/24"},
		{"next when taken", 3, []netip.Prefix{netip.MustParsePrefix("10.90.3.0/24")}, "10.90.4.0/24"},
		{"taken by a part", 3, []netip.Prefix{netip.MustParsePrefix("10.90.3.128/25")}, "10.90.4.0/24"},
		{"around the end", subnetCount - 1, []netip.Prefix{netip.MustParsePrefix("10.95.0.0/16")}, "10.90.0.0/24"},
		{"all taken", 0, []netip.Prefix{all}, "invalid Prefix"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := freeSubnet(tt.seed, tt.taken)
			if got.String() != tt.want || (err != nil) != !got.IsValid() {
				t.Errorf("got %v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

// Nothing that a lab may take is Kubernetes' service or pod network.
func TestSubnetsKeepClear(t *testing.T) {
	reserved := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.88.0.0/16")}
	for seed := range uint32(subnetCount) {
		p, err := freeSubnet(seed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if o, bad := overlap(p, reserved); bad {
			t.Fatalf("%s overlaps %s", p, o)
		}
	}
}

func TestParseRoutes(t *testing.T) {
	const table = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
tun0	00005A0A	00000000	0001	0	0	0	0000FFFF	0	0	0
`
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.90.0.0/16")}
	if d := cmp.Diff(want, parseRoutes([]byte(table)), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestDeviceNames(t *testing.T) {
	br := bridgeName("/var/lib/berth-lab/some-name")
	if cable := cableName(br, MaxNodes-1); len(cable) > 15 {
		t.Errorf("%s has %d characters, a device name has 15 at most", cable, len(cable))
	}
}
