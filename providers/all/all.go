// Package all lists the providers. It holds nothing but the list: a new provider is one line in Registry.
package all

import (
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/dns"
	"berth.dev/berth/providers/image"
	"berth.dev/berth/providers/network"
	"berth.dev/berth/providers/node"
	"berth.dev/berth/providers/proxy"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/providers/volume"
)

// Options are what providers need beside their host.
type Options struct {
	Images *image.Builder // builds what images deliver; never nil
}

// Registry returns every provider in the order in which they observe: facts first, then what stands on them.
func Registry(o Options) providers.Registry {
	return providers.Registry{
		node.New(),
		network.New(),
		image.New(o.Images),
		volume.New(),
		runtime.New(),
		proxy.New(),
		dns.New(),
	}
}
