package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// UnsupportedError says why this machine cannot have a lab, and what to do about it.
type UnsupportedError struct {
	Reason string
}

func (e *UnsupportedError) Error() string { return "no lab on this machine: " + e.Reason }

// needs are the programs a lab uses and the Debian package of each.
var needs = []struct{ program, pkg string }{
	{"ip", "iproute2"},
	{"nsenter", "util-linux"},
	{"unshare", "util-linux"},
	{"pivot_root", "util-linux"},
	{"mount", "mount"},
	{"sysctl", "procps"},
	{"iptables", "iptables"},
	{"sshd", "openssh-server"},
	{"containerd", "containerd"},
	{"runc", "runc"},
}

// Check says whether this machine can have a lab. The error is an *UnsupportedError.
func Check() error {
	if runtime.GOOS != "linux" {
		return &UnsupportedError{"it needs Linux, this is " + runtime.GOOS}
	}
	if os.Geteuid() != 0 {
		return &UnsupportedError{"it needs root"}
	}
	if missing := missingPackages(); len(missing) > 0 {
		return &UnsupportedError{fmt.Sprintf("missing %s: run `make deps`", strings.Join(missing, ", "))}
	}
	return nil
}

func missingPackages() []string {
	var missing []string
	for _, n := range needs {
		if !installed(n.program) && !slices.Contains(missing, n.pkg) {
			missing = append(missing, n.pkg)
		}
	}
	if _, err := os.Stat(filepath.Join(cniBinDir(), "bridge")); err != nil {
		missing = append(missing, "containernetworking-plugins")
	}
	return missing
}

// installed also looks where root's programs are, which may not be on the PATH.
func installed(program string) bool {
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}
