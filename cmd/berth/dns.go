package main

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/spf13/cobra"

	"berth.dev/berth/internal/clusterdns"
)

// newDNS is what runs in the pods of berth-dns. People have no use for it, so it is not listed.
func newDNS(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "dns", Short: "The DNS server of a node", Hidden: true, Args: cobra.NoArgs}
	o := clusterdns.Options{Resolv: "/etc/resolv.conf"}
	var ranges, stubs []string
	serve := &cobra.Command{
		Use: "serve", Short: "Answer questions for names of the cluster", Hidden: true, Args: cobra.NoArgs,
		Long: `Answers from a folder of record files, which it follows, and forwards the rest. It is what runs in the pods of berth-dns;
Berth sets its flags.`,
		Example: "  berth dns serve --records /records",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range ranges {
				p, err := netip.ParsePrefix(text)
				if err != nil {
					return usageError{fmt.Errorf("--range: %w", err)}
				}
				o.Ranges = append(o.Ranges, p)
			}
			for _, server := range o.Upstream {
				if err := clusterdns.CheckServer(server); err != nil {
					return usageError{fmt.Errorf("--upstream: %w", err)}
				}
			}
			for _, text := range stubs {
				s, err := clusterdns.ParseStub(text)
				if err != nil {
					return usageError{err}
				}
				o.Stubs = append(o.Stubs, s)
			}
			return clusterdns.Serve(cmd.Context(), o, slog.New(slog.NewTextHandler(g.proc.Stderr, nil)))
		},
	}
	f := serve.Flags()
	f.StringVar(&o.Domain, "domain", "cluster.local", "the cluster's `domain`")
	f.StringVar(&o.Records, "records", "/records", "the `folder` of record files")
	f.StringArrayVar(&o.Services, "services", nil, "a `folder` of services' rules, whose health check ports are answered: one for each family")
	f.StringVar(&o.Zone, "zone", "", "a `file` of more records")
	f.StringVar(&o.Address, "address", "", "the `address` at which pods ask")
	f.StringArrayVar(&ranges, "range", nil, "a `range` of the cluster's addresses, whose names nobody else knows")
	f.StringArrayVar(&o.Upstream, "upstream", nil, "a `server` for all other names, instead of those in /etc/resolv.conf")
	f.StringArrayVar(&stubs, "stub", nil, "a domain that other servers know: `DOMAIN=SERVER[,SERVER...]`")
	f.IntVar(&o.Port, "port", 53, "the `port` to answer at")
	f.StringVar(&o.Health, "health", ":8080", "where to say that the server runs, as `ADDRESS`")
	f.StringVar(&o.Ready, "ready", ":8181", "where to say that it has read all records, as `ADDRESS`")
	f.StringVar(&o.Metrics, "metrics", ":9153", "where to give figures for Prometheus, as `ADDRESS`")
	cmd.AddCommand(serve)
	return cmd
}
