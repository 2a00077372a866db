package dns

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Provider carries out dns.set.
type Provider struct{}

var _ providers.Provider = (*Provider)(nil)

// New returns the provider.
func New() *Provider { return &Provider{} }

// Name is "dns".
func (*Provider) Name() string { return "dns" }

// Ops is dns.set alone: what a node's server knows goes with the node.
func (*Provider) Ops() []api.Op { return []api.Op{api.OpDNSSet} }

// Apply writes and removes record files, in one trip.
func (p *Provider) Apply(ctx context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	if w.Step.Op != api.OpDNSSet || w.Step.DNS == nil {
		return providers.Result{}, fmt.Errorf("provider dns: step %s carries no records", w.Step.Op)
	}
	stdin, err := pack(w.Step.DNS, w.Endpoints)
	if err != nil {
		return providers.Result{}, fmt.Errorf("write DNS records on %s: %w", h.Name(), err)
	}
	args, err := mark.Args(w)
	if err != nil {
		return providers.Result{}, fmt.Errorf("write DNS records on %s: %w", h.Name(), err)
	}
	if _, err := h.Run(ctx, providers.Command{Script: setScript, Args: args, Stdin: stdin}); err != nil {
		err = mark.Err(h, err)
		if exit, ok := errors.AsType[*providers.ExitError](err); ok && exit.DiskFull() {
			err = &api.DiagnosticsError{Diagnostics: api.Diagnostics{{
				Severity: api.SeverityError, Summary: "Disk full", Node: h.Name(),
				Detail: fmt.Sprintf("DNS records could not be written to %s: %s. Make room on the host.", api.DNSDir, exit.Stderr),
			}}}
		}
		return providers.Result{}, fmt.Errorf("write DNS records on %s: %w", h.Name(), err)
	}
	return providers.Result{}, nil
}

// fileName is that of a service's records. Neither namespaces nor names have underscores.
func fileName(key string) string { return strings.Replace(key, "/", "_", 1) + ".json" }

// pack makes an archive of the files to put, and of the names of those to drop.
func pack(work *api.DNSWork, endpoints []providers.Endpoint) (io.Reader, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	add := func(name string, text []byte) error {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err := tw.Write(text)
		return err
	}
	for i := range work.Put {
		e := &work.Put[i]
		if len(endpoints) < len(e.Endpoints) {
			return nil, fmt.Errorf("service %s: an endpoint has no address", e.Records.Key())
		}
		ips := make([]string, len(e.Endpoints))
		for j := range ips {
			ips[j] = api.JoinIPs(endpoints[j].IP, endpoints[j].SecondIP)
		}
		endpoints = endpoints[len(ips):]
		r := e.Resolve(ips)
		if err := add("put/"+fileName(r.Key()), r.Text()); err != nil {
			return nil, err
		}
	}
	var drop strings.Builder
	for _, key := range work.Drop {
		drop.WriteString(fileName(key) + "\n")
	}
	if err := add("drop", []byte(drop.String())); err != nil {
		return nil, err
	}
	return &buf, tw.Close()
}

// setScript takes an archive with the folder "put" and the list "drop". A file is renamed into its place, so that the server, which
// may read at any time, never sees a part of it.
const setScript = mark.Check + `
berth_write_mark
dir=` + api.DNSDir + `
mkdir -p "$dir/records"
rm -rf "$dir/new"
mkdir -p "$dir/new/put"
tar -x -m --no-same-owner -C "$dir/new" -f -
find "$dir/new/put" -type f -exec mv -t "$dir/records" {} +
while read -r file; do rm -f "$dir/records/$file"; done <"$dir/new/drop"
rm -rf "$dir/new"
`

// Observe fills in obs.DNS: the hash of each record file that is there.
func (p *Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	out, err := h.Run(ctx, providers.Command{Script: observeScript})
	if err != nil {
		return fmt.Errorf("observe DNS records on %s: %w", h.Name(), err)
	}
	for line := range strings.Lines(string(out.Stdout)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		namespace, service, both := strings.Cut(strings.TrimSuffix(name, ".json"), "_")
		if !ok || !both || len(sum) < hashLength {
			continue
		}
		if obs.DNS == nil {
			obs.DNS = map[string]string{}
		}
		obs.DNS[namespace+"/"+service] = sum[:hashLength]
	}
	return nil
}

// hashLength is how much of a sum api.DNSRecords.Hash keeps, in hexadecimal digits.
const hashLength = 16

const observeScript = `cd ` + api.DNSDir + `/records 2>/dev/null || exit 0
find . -maxdepth 1 -type f -name '*_*.json' -printf '%f\0' | xargs -0r sha256sum --
`
