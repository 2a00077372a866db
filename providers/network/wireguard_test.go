package network

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

const (
	secretKey = "uAt1W9nqXCNCdOCnCVnmkbt1vKCvWOgl0DbP9hBmyVk="
	peerKey   = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
)

// The configuration is whole whether or not the key's file ends with its line.
func TestWireGuardConfig(t *testing.T) {
	t.Parallel()
	want := "[Interface]\nListenPort = 51821\nPrivateKey = " + secretKey + "\n[Peer]\nPublicKey = " + peerKey +
		"\nEndpoint = 192.0.2.2:51821\nAllowedIPs = 10.244.2.0/24\n"
	for _, end := range []string{"", "\n"} {
		dir := keyed(t, secretKey+end)
		out, err := shell(dir, "berth_wg_config")
		if err != nil || out != want {
			t.Errorf("with a file that ends with %q: %v\n%s\nwant\n%s", end, err, out, want)
		}
	}
}

// What wg quotes of the configuration has the key, and is told to nobody; what the kernel answers is.
func TestWireGuardKeepsSecrets(t *testing.T) {
	t.Parallel()
	dir := keyed(t, secretKey)
	program(t, dir, "ip", "exit 0")
	program(t, dir, "wg", "cat >&2; echo 'Unable to modify interface: Address already in use' >&2; exit 1")
	out, err := shell(dir, "set -eu; berth_wireguard; echo on")
	if want := "wg refuses the configuration of berth-wg. Unable to modify interface: Address already in use\n"; err == nil || out != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

func keyed(t *testing.T, key string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{keyFile: key, "peers": "10.244.2.0/24 192.0.2.2 " + peerKey + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func program(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func shell(dir, command string) (string, error) {
	c := exec.Command("sh", "-c", "berth_net=$1\nPATH=$1:$PATH\n"+wireGuard+command, "sh", dir)
	out, err := c.CombinedOutput()
	return string(out), err
}

type named struct{ providers.Host }

func (named) Name() string { return "a1" }

// A mode without a device has no hint for a kernel that lacks one: the error stays as it is.
func TestExplain(t *testing.T) {
	t.Parallel()
	said := &providers.ExitError{Status: 2, Stderr: "RTNETLINK answers: Operation not supported"}
	for mode, want := range map[string]string{
		"vxlan": "No VXLAN on the host", "wireguard": "No WireGuard on the host", "host-gw": "", "none": "",
	} {
		err := explain(named{}, &api.NodeNetwork{Mode: mode}, said)
		ds, ok := errors.AsType[*api.DiagnosticsError](err)
		switch {
		case want == "" && err != error(said):
			t.Errorf("%s: %v, want the error itself", mode, err)
		case want != "" && (!ok || !strings.Contains(ds.Diagnostics[0].Summary, want)):
			t.Errorf("%s: %v, want %q", mode, err, want)
		}
	}
}
