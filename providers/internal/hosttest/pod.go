package hosttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// probePath is where InstallProbe puts the test program on a host: on its disk, so that it outlives a reboot.
const probePath = "/usr/local/bin/berth-probe"

// cniDirs are where the plugins may lie.
const cniPath = "/usr/lib/cni:/opt/cni/bin:/usr/libexec/cni"

// InstallProbe builds the test program and puts it on the hosts.
func InstallProbe(t testing.TB, hosts ...*Host) {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	dir := filepath.Dir(strings.TrimSpace(string(root)))
	bin := filepath.Join(t.TempDir(), "probe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./providers/internal/hosttest/testdata/probe")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build probe: %v\n%s", err, out)
	}
	text, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		_, err := h.Run(t.Context(), providers.Command{Script: `cat >"$1" && chmod 755 "$1"`, Args: []string{probePath}, Stdin: bytes.NewReader(text)})
		if err != nil {
			t.Fatalf("install probe on %s: %v", h.name, err)
		}
	}
}

// Sh runs a script on the host and returns what it printed. It fails the test if the script does.
func (h *Host) Sh(t testing.TB, script string, args ...string) string {
	t.Helper()
	out, err := h.Run(context.WithoutCancel(t.Context()), providers.Command{Script: script, Args: args}) // cleaning up too
	if err != nil {
		t.Fatalf("%s\non %s: %v", script, h.name, err)
	}
	return string(out.Stdout)
}

// Probe runs the test program on the host itself: "get", "10.0.0.1:80".
func (h *Host) Probe(ctx context.Context, args ...string) (string, error) {
	out, err := h.Run(ctx, providers.Command{Script: probePath + ` "$@"`, Args: args})
	return strings.TrimSpace(string(out.Stdout)), err
}

// Pod is a network namespace on a host with an address by CNI, in which the test program serves on port 8080.
type Pod struct {
	Name string
	IP   string
	host *Host
}

// NewPod makes a pod from the CNI configuration that lies on the host. It is removed at the test's end.
func (h *Host) NewPod(t testing.TB, name string) *Pod {
	t.Helper()
	conf := bridgePlugin(t, h)
	ns := "/run/netns/" + name
	run := func(command string) (providers.Output, error) {
		return h.Run(context.WithoutCancel(t.Context()), providers.Command{
			Script: `export CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=$3 CNI_IFNAME=eth0 CNI_PATH=` + cniPath + `
for d in $(echo $CNI_PATH | tr : ' '); do [ ! -x $d/bridge ] || exec $d/bridge; done`,
			Args: []string{command, name, ns}, Stdin: bytes.NewReader(conf),
		})
	}
	h.Sh(t, `ip netns add "$1"`, name)
	t.Cleanup(func() {
		if _, err := run("DEL"); err != nil {
			t.Logf("remove pod %s: %v", name, err)
		}
		h.Run(context.WithoutCancel(t.Context()), providers.Command{Script: `kill $(ip netns pids "$1"); ip netns del "$1"`, Args: []string{name}})
	})
	out, err := run("ADD")
	if err != nil {
		t.Fatalf("CNI ADD of %s on %s: %v: %s", name, h.name, err, out.Stdout)
	}
	var result struct{ IPs []struct{ Address string } }
	if err := json.Unmarshal(out.Stdout, &result); err != nil || len(result.IPs) != 1 {
		t.Fatalf("CNI ADD of %s: %v: %s", name, err, out.Stdout)
	}
	ip, _, _ := strings.Cut(result.IPs[0].Address, "/")
	p := &Pod{Name: name, IP: ip, host: h}
	p.serve(t)
	return p
}

func (p *Pod) serve(t testing.TB) {
	t.Helper()
	cmd, err := p.host.Command(context.WithoutCancel(t.Context()), "nsenter", "--net=/run/netns/"+p.Name, "--", probePath, "serve", "8080", p.Name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("serve in pod %s: %q %v", p.Name, line, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// Command prepares the test program inside the pod, for the caller to run.
func (p *Pod) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	return p.host.Command(ctx, append([]string{"nsenter", "--net=/run/netns/" + p.Name, "--", probePath}, args...)...)
}

// Probe runs the test program inside the pod.
func (p *Pod) Probe(ctx context.Context, args ...string) (string, error) {
	out, err := p.host.Run(ctx, providers.Command{
		Script: `ns=$1; shift; exec nsenter --net=/run/netns/$ns -- ` + probePath + ` "$@"`,
		Args:   append([]string{p.Name}, args...),
	})
	return strings.TrimSpace(string(out.Stdout)), err
}

// bridgePlugin is the first plugin's part of the conflist on the host, as the plugin reads it.
func bridgePlugin(t testing.TB, h *Host) []byte {
	t.Helper()
	var list struct {
		CNIVersion string           `json:"cniVersion"`
		Name       string           `json:"name"`
		Plugins    []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(h.Sh(t, "cat "+api.CNIConflist)), &list); err != nil {
		t.Fatalf("read %s: %v", api.CNIConflist, err)
	}
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = list.CNIVersion, list.Name
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(fmt.Errorf("write plugin configuration: %w", err))
	}
	return text
}
