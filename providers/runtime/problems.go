package runtime

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// explain turns an error that says only that containerd did not answer, or not in the way we need, into one that says why. Others
// stay as they are.
func (m *machine) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if code := status.Code(unwrapStatus(err)); code != codes.Unavailable && code != codes.Unimplemented {
		return err
	}
	d, cause := m.diagnose(ctx, err)
	if cause != nil {
		return errors.Join(err, cause)
	}
	return &api.DiagnosticsError{Diagnostics: api.Diagnostics{d}}
}

// unwrapStatus finds the gRPC error among those that an error wraps.
func unwrapStatus(err error) error {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Err()
	}
	return err
}

// diagnose finds out why containerd did not do what was asked. It returns an error when the host cannot be asked either.
func (m *machine) diagnose(ctx context.Context, err error) (api.Diagnostic, error) {
	conn, dialErr := m.Dial(ctx, "unix", cri.Socket)
	if dialErr == nil {
		conn.Close()
	}
	if errors.Is(dialErr, providers.ErrUnreachable) {
		return api.Diagnostic{}, dialErr
	}
	d := api.Diagnostic{Severity: api.SeverityError, Node: m.Name()}
	if errors.Is(dialErr, providers.ErrForwardingRefused) {
		d.Summary = "SSH server refuses forwarding"
		d.Detail = fmt.Sprintf("Berth reaches containerd on %s through the SSH connection, and its SSH server does not forward %s. "+
			"Set AllowStreamLocalForwarding yes and AllowTcpForwarding yes in its sshd_config and reload sshd.", m.Name(), cri.Socket)
		return d, nil
	}
	out, runErr := m.Run(ctx, providers.Command{Script: containerdScript, Args: []string{cri.Socket}})
	if runErr != nil {
		return api.Diagnostic{}, fmt.Errorf("look for containerd: %w", runErr)
	}
	d.Summary, d.Detail = containerdProblem(m.Name(), string(out.Stdout), status.Code(unwrapStatus(err)), criText(unwrapStatus(err)))
	return d, nil
}

const containerdScript = `if command -v containerd >/dev/null; then echo "version $(containerd --version 2>/dev/null)"; fi
if [ -S "$1" ]; then echo socket; fi
`

var versionShape = regexp.MustCompile(`(?m)^version .*?\bv?(\d+)\.(\d+)(\S*)`)

// containerdProblem says what is wrong with containerd, from what containerdScript printed and how the call failed.
func containerdProblem(node, found string, code codes.Code, text string) (summary, detail string) {
	const prepare = "`berth node prepare` installs and configures what is missing."
	v := versionShape.FindStringSubmatch(found)
	switch {
	case v != nil && tooOld(v[1], v[2]):
		return "containerd is too old", fmt.Sprintf("%s has containerd %s.%s%s; Berth needs 1.6 or newer. Upgrade it; %s", node, v[1], v[2], v[3], prepare)
	case code == codes.Unimplemented:
		return "containerd has its CRI plugin disabled", fmt.Sprintf("containerd on %s answers, but without CRI (%s). Take the cri entry out of disabled_plugins in "+
			"/etc/containerd/config.toml and restart containerd; %s", node, text, prepare)
	case !strings.Contains(found, "version"):
		return "containerd not found", fmt.Sprintf("%s has no containerd. Install containerd 1.6 or newer; %s", node, prepare)
	case !strings.Contains(found, "socket"):
		return "containerd is not running", fmt.Sprintf("Nothing listens on %s of %s. Start it with `systemctl enable --now containerd`; if it does not stay up, "+
			"`journalctl -u containerd` says why.", cri.Socket, node)
	}
	return "containerd does not answer", fmt.Sprintf("containerd on %s: %s. `journalctl -u containerd` on the host may say why.", node, text)
}

func tooOld(major, minor string) bool {
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a < 1 || a == 1 && b < 6)
}
