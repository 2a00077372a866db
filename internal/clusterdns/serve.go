package clusterdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/cache"       // the directive cache
	_ "github.com/coredns/coredns/plugin/errors"      // the directive errors
	_ "github.com/coredns/coredns/plugin/forward"     // the directive forward
	_ "github.com/coredns/coredns/plugin/health"      // the directive health
	_ "github.com/coredns/coredns/plugin/loadbalance" // the directive loadbalance
	_ "github.com/coredns/coredns/plugin/loop"        // the directive loop
	_ "github.com/coredns/coredns/plugin/metrics"     // the directive prometheus
	"github.com/coredns/coredns/plugin/pkg/upstream"
	_ "github.com/coredns/coredns/plugin/ready" // the directive ready
	"github.com/miekg/dns"
)

// directives are the plugins in the order in which a question passes them.
var directives = []string{"health", "ready", "prometheus", "errors", "loadbalance", pluginName, "cache", "loop", "forward"}

// Serve answers until the context ends. A process serves once.
func Serve(ctx context.Context, o Options, log *slog.Logger) error {
	z, err := o.zone()
	if err != nil {
		return err
	}
	resolv, err := os.ReadFile(o.Resolv)
	if err != nil && len(o.Upstream) == 0 {
		log.Warn("no servers for other names", "err", err)
	}
	servers := o.upstream(string(resolv))
	if len(servers) == 0 {
		log.Warn("no servers for other names: only those of the cluster are answered; set dns { upstream = [...] }", "file", o.Resolv)
	}
	register(z)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &folder{path: o.Records, store: z.store, log: log, seen: map[string]stamp{}}
	ended := make(chan struct{})
	go func() { // ends with the context
		defer close(ended)
		var both sync.WaitGroup
		both.Go(func() {
			if err := f.follow(ctx); err != nil {
				cancel(err)
			}
		})
		for _, path := range o.Services { // a service is in that of its first family
			h := &health{path: path, log: log}
			both.Go(func() {
				if err := h.follow(ctx); err != nil {
					cancel(err)
				}
			})
		}
		both.Wait()
	}()
	inst, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(o.corefile(servers)), Filepath: "Corefile", ServerTypeName: "dns"})
	if err != nil {
		cancel(nil)
		<-ended
		return fmt.Errorf("start the DNS server: %w", err)
	}
	<-ctx.Done()
	<-ended
	errs := inst.ShutdownCallbacks()
	err = errors.Join(append(errs, inst.Stop())...)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// zone is what the plugin answers from, without records yet.
func (o *Options) zone() (*zone, error) {
	z := &zone{store: newStore(), custom: custom{}, domain: strings.ToLower(dns.Fqdn(o.Domain)), ranges: o.Ranges}
	if o.Address != "" {
		ip, err := netip.ParseAddr(o.Address)
		if err != nil {
			return nil, fmt.Errorf("address of the DNS server: %w", err)
		}
		z.address = ip
	}
	if o.Zone != "" {
		text, err := os.ReadFile(o.Zone)
		if err != nil {
			return nil, fmt.Errorf("custom records: %w", err)
		}
		if z.custom, err = parseCustom(string(text), o.Zone); err != nil {
			return nil, err
		}
	}
	return z, nil
}

// register tells CoreDNS of our plugin. CoreDNS keeps its plugins in variables of its own.
func register(z *zone) {
	dnsserver.Directives = slices.Clone(directives)
	h := &handler{zone: z, upstream: upstream.New()}
	plugin.Register(pluginName, func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
			h.next = next
			return h
		})
		return nil
	})
}
