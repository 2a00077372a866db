package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/network"
	"berth.dev/berth/providers/proxy"
)

// many is the i-th of many services with three endpoints, of which one follows the generation.
func many(i, generation int) (*corev1.Service, []string) {
	s := service(func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIP = fmt.Sprintf("web-%d", i), fmt.Sprintf("10.97.%d.%d", i/250, i%250)
	})
	return s, []string{"10.244.3.1@x", "10.244.3.2@x", fmt.Sprintf("10.244.3.%d@x", 3+generation%200)}
}

// bare are the rules of n services as they would be written by hand, in parts of so many services: what iptables-restore has to do in any case.
func bare(b *testing.B, n, part int) string {
	b.Helper()
	var out strings.Builder
	for from := 0; from < n; from += part {
		out.WriteString("*nat\n")
		for i := from; i < min(n, from+part); i++ {
			s, ends := many(i, 0)
			sw, list := work(s, ends...)
			r, err := proxy.Render(sw, list, proxy.On{Node: "n1", PodCIDR: podCIDR})
			if err != nil {
				b.Fatal(err)
			}
			for line := range strings.Lines(r.Text()) {
				if strings.HasPrefix(line, ":") || strings.HasPrefix(line, "-A") {
					out.WriteString(line)
				}
			}
		}
		out.WriteString("COMMIT\n")
	}
	return out.String()
}

// together has the provider set services on one host, as an apply does that has them all ready at once.
func (w *world) together(b *testing.B, host, n int) {
	b.Helper()
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() {
			s, ends := many(i, 0)
			_, errs[i] = w.step(b.Context(), host, api.OpServiceSet, s, ends...)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
}

const readBackend = `PATH=$PATH:/usr/sbin:/sbin; read -r ipt </var/lib/berth/network/backend; `

// empty takes all rules of services from a host, without Berth.
func (w *world) empty(b *testing.B, host int) {
	b.Helper()
	w.hosts[host].Sh(b, readBackend+`rm -rf /var/lib/berth/network/services
		"$ipt-save" -t nat | awk '/^:BERTH-(SVC|SEP)-/ { c = substr($1, 2); d = d ":" c " - [0:0]\n"; x = x "-X " c "\n" }
		END { printf "*nat\n:BERTH-SERVICES - [0:0]\n%s%sCOMMIT\n", d, x }' | "$ipt-restore" --noflush`)
}

// BenchmarkReach compares what the provider does with 5,000 services of three endpoints with what iptables-restore does with the same rules.
func BenchmarkReach(b *testing.B) {
	const n = 5000
	for _, backend := range []string{"nft", "legacy"} {
		b.Run(backend, func(b *testing.B) {
			var before []string
			if backend == "legacy" {
				before = append(before, "iptables-legacy -A INPUT -s 192.0.2.9 -j ACCEPT")
			}
			w := setUp(b, before...)
			h := w.hosts[0]
			restore := func(text string) func() {
				return func() {
					if _, err := h.Run(b.Context(), providers.Command{Script: readBackend + `exec "$ipt-restore" -w 5 --noflush`, Stdin: strings.NewReader(text)}); err != nil {
						b.Fatal(err)
					}
				}
			}
			one, parts := bare(b, n, n), bare(b, n, 250)
			best := costs{}
			for b.Loop() {
				w.empty(b, 0)
				if backend == "legacy" || os.Getenv("BERTH_SLOW") != "" { // a quarter of a minute and more with nft
					best.of("bare-one", restore(one))
					w.empty(b, 0)
				}
				best.of("bare-parts", restore(parts))
				w.empty(b, 0)
				best.of("first", func() { w.together(b, 0, n) })
				if got := strings.Count(h.Sh(b, readBackend+`"$ipt-save" -t nat`), "\n:BERTH-SEP-"); got != 3*n {
					b.Fatalf("%d endpoints in force", got)
				}
				for i := range 5 {
					s, ends := many(2500, i+1)
					best.of("endpoint", func() {
						if _, err := w.step(b.Context(), 0, api.OpServiceSet, s, ends...); err != nil {
							b.Fatal(err)
						}
					})
					best.of("endpoint-bare", restore(fmt.Sprintf("*nat\n:BERTH-SEP-BENCHBENCHBENCHB - [0:0]\n-A BERTH-SEP-BENCHBENCHBENCHB -p tcp -j DNAT --to-destination 10.0.0.%d:80\nCOMMIT\n", i+1)))
				}
			}
			w.empty(b, 0)
			best.report(b)
			best.ratio(b, "first", "bare-parts")
			best.ratio(b, "first", "bare-one")
		})
	}
}

// cost is what something took: on the clock, and of the processors, for this process and for what it started on the host. Where the machine has
// other work, the second says more.
type cost struct{ wall, cpu time.Duration }

// costs are the least that each thing took.
type costs map[string]cost

func (c costs) of(what string, do func()) {
	cpu := func() time.Duration {
		var sum time.Duration
		for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
			var u syscall.Rusage
			if err := syscall.Getrusage(who, &u); err != nil {
				panic(err) // cannot happen: both are known
			}
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		return sum
	}
	was, began := cpu(), time.Now()
	do()
	now := cost{time.Since(began), cpu() - was}
	if old, ok := c[what]; ok {
		now = cost{min(now.wall, old.wall), min(now.cpu, old.cpu)}
	}
	c[what] = now
}

func (c costs) report(b *testing.B) {
	for what, d := range c {
		b.ReportMetric(float64(d.wall.Milliseconds()), what+"-ms")
		b.ReportMetric(float64(d.cpu.Milliseconds()), what+"-cpu-ms")
	}
}

func (c costs) ratio(b *testing.B, x, y string) {
	if c[y].wall > 0 {
		b.ReportMetric(c[x].wall.Seconds()/c[y].wall.Seconds(), x+"/"+y)
		b.ReportMetric(c[x].cpu.Seconds()/c[y].cpu.Seconds(), x+"/"+y+"-cpu")
	}
}

// BenchmarkTwentyHosts changes one endpoint on twenty hosts at once.
func BenchmarkTwentyHosts(b *testing.B) {
	labtest.Require(b)
	l, err := lab.Up(b.Context(), lab.Config{Name: fmt.Sprintf("t-proxy20-%d", os.Getpid()), Nodes: 20, Ephemeral: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	w := &world{lab: l}
	for i, n := range l.Nodes() {
		h := hosttest.New(n.Name, func() (int, error) { return w.pid(b, n.Name) })
		w.hosts = append(w.hosts, h)
		net := &api.NodeNetwork{Mode: "vxlan", ClusterCIDR: podCIDR, ServiceCIDR: cluster.ServiceCIDR, PodCIDR: fmt.Sprintf("10.244.%d.0/24", i+1),
			NodeIP: n.Address, Interface: "eth0", MTU: 1450, VTEPMAC: fmt.Sprintf("0e:be:00:00:01:%02x", i+1), CNIBinDir: "/usr/lib/cni"}
		if _, err := network.New().Apply(b.Context(), h, &providers.Work{Step: &api.Step{Op: api.OpNodeSet, Node: n.Name, Network: net}, Lineage: lineage, Cluster: cluster}); err != nil {
			b.Fatal(err)
		}
	}
	everywhere := func(generation int) {
		var all sync.WaitGroup
		errs := make([]error, len(w.hosts))
		for i := range w.hosts {
			all.Go(func() {
				s, ends := many(0, generation)
				_, errs[i] = w.step(b.Context(), i, api.OpServiceSet, s, ends...)
			})
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	everywhere(0)
	best := costs{}
	for generation := 1; b.Loop(); generation++ {
		best.of("all", func() { everywhere(generation) })
	}
	best.report(b)
}

// BenchmarkThroughput compares a pod's connection through a service to a pod on another node with the same one without a service.
func BenchmarkThroughput(b *testing.B) {
	w := setUp(b)
	s := service(func(s *corev1.Service) { s.Spec.Ports[0].Port = 5201 })
	sw, list := work(s, w.ends(w.pods[1])...)
	list[0].Ports[""] = 5201
	for _, h := range w.hosts {
		if _, err := proxy.New().Apply(b.Context(), h, &providers.Work{
			Step: &api.Step{Op: api.OpServiceSet, Node: h.Name(), Service: sw}, Lineage: lineage, Cluster: cluster, Endpoints: list,
		}); err != nil {
			b.Fatal(err)
		}
	}
	server, err := w.hosts[1].Command(b.Context(), "nsenter", "--net=/run/netns/b", "--", "iperf3", "-s", "-p", "5201")
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Process.Kill(); server.Wait() })
	rate := func(to string) float64 {
		var out []byte
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) { // until the server listens
			o, err := w.hosts[0].Run(b.Context(), providers.Command{Script: `exec nsenter --net=/run/netns/a -- iperf3 -J -t 2 -p 5201 -c "$1"`, Args: []string{to}})
			if out = o.Stdout; err == nil || time.Now().After(deadline) {
				break
			}
		}
		var r struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		if err := json.NewDecoder(bytes.NewReader(out)).Decode(&r); err != nil || r.End.Received.Rate == 0 {
			b.Fatalf("%v: %s", err, out)
		}
		return r.End.Received.Rate
	}
	var direct, through float64
	for b.Loop() {
		for range 3 {
			direct, through = max(direct, rate(w.pods[1].IP)), max(through, rate("10.96.0.10"))
		}
	}
	b.ReportMetric(direct/1e9, "direct-Gbit/s")
	b.ReportMetric(through/1e9, "service-Gbit/s")
	b.ReportMetric(through/direct, "ratio")
}
