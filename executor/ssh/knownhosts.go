package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/skeema/knownhosts"
	xssh "golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys is how a target's host key is verified, and which kinds of key to ask the host for: those that are known.
type hostKeys struct {
	check      xssh.HostKeyCallback
	algorithms []string
}

// hostKeysFor verifies against the node's pinned key, or against known_hosts. There is no third way.
func hostKeysFor(t *target) (hostKeys, error) {
	if t.pinned != "" {
		return pinnedKey(t)
	}
	var files []string
	for _, f := range t.knownHosts {
		_, err := os.Stat(f.path)
		switch {
		case err == nil:
			files = append(files, f.path)
		case f.wanted:
			return hostKeys{}, refuse(BadSettings, err, "read the known host keys: %v. Correct known_hosts_file in the node's ssh block, or "+
				"make the file with: %s", err, keyscan(t))
		}
	}
	db, err := knownhosts.NewDB(files...)
	if err != nil {
		return hostKeys{}, refuse(BadSettings, err, "read the known host keys: %v. Correct that line.", err)
	}
	check := db.HostKeyCallback()
	return hostKeys{
		algorithms: db.HostKeyAlgorithms(t.keyAddress()),
		check: func(address string, remote net.Addr, key xssh.PublicKey) error {
			return explainKey(t, key, check(address, remote, key))
		},
	}, nil
}

// keyAddress is what known_hosts is asked for. As in ssh, an alias stands there without a port.
func (t *target) keyAddress() string {
	if t.keyAlias != "" {
		return net.JoinHostPort(t.keyAlias, "22")
	}
	return t.address()
}

// explainKey turns a refusal into sentences.
func explainKey(t *target, key xssh.PublicKey, err error) error {
	var revoked *xknownhosts.RevokedError
	var mismatch *xknownhosts.KeyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return refuse(HostKeyChanged, err, "the host key that %s shows (%s) is marked as revoked in %s line %d. Do not use this host until "+
			"it has a new key.", t.address(), fingerprint(key), revoked.Revoked.Filename, revoked.Revoked.Line)
	case !errors.As(err, &mismatch):
		return refuse(HostKeyUnknown, err, "the host key of %s cannot be verified: %v. Correct known_hosts.", t.address(), err)
	case len(mismatch.Want) == 0:
		return refuse(HostKeyUnknown, err, "%s shows the host key %s, which %s. Compare it with what the host itself says "+
			"(ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub on its console); if they are equal, run: %s", t.address(), fingerprint(key),
			notIn(t), keyFileName(key), keyscan(t))
	}
	var known []string
	for _, w := range mismatch.Want {
		known = append(known, fmt.Sprintf("%s (%s line %d)", fingerprint(w.Key), w.Filename, w.Line))
	}
	return refuse(HostKeyChanged, err, "THE HOST KEY OF %s HAS CHANGED. It shows %s; known is %s. Either the host was installed anew, or "+
		"somebody stands between and pretends to be it. If you know that it was installed anew, run: ssh-keygen -R '%s' -f %s && %s",
		t.address(), fingerprint(key), strings.Join(known, ", "), knownhosts.Normalize(t.keyAddress()), mismatch.Want[0].Filename, keyscan(t))
}

func notIn(t *target) string {
	var paths []string
	for _, f := range t.knownHosts {
		paths = append(paths, f.path)
	}
	if len(paths) == 0 {
		return "cannot be verified: no known_hosts file is set"
	}
	return "is not in " + strings.Join(paths, " or ")
}

// keyscan is the command that makes a host known.
func keyscan(t *target) string {
	file := "~/.ssh/known_hosts"
	if len(t.knownHosts) > 0 {
		file = t.knownHosts[0].path
	}
	if t.port == "22" {
		return fmt.Sprintf("ssh-keyscan %s >> %s", t.host, file)
	}
	return fmt.Sprintf("ssh-keyscan -p %s %s >> %s", t.port, t.host, file)
}

func keyFileName(key xssh.PublicKey) string {
	switch key.Type() {
	case xssh.KeyAlgoED25519:
		return "ed25519"
	case xssh.KeyAlgoRSA:
		return "rsa"
	}
	return "ecdsa"
}

// pinnedKey accepts the node's host_key alone.
func pinnedKey(t *target) (hostKeys, error) {
	want, _, _, _, err := xssh.ParseAuthorizedKey([]byte(t.pinned))
	if err != nil {
		return hostKeys{}, refuse(BadSettings, err, "host_key is not a public key (%v). Write it as the host's ssh_host_ed25519_key.pub has "+
			`it: "ssh-ed25519 AAAA...".`, err)
	}
	algorithms := []string{want.Type()}
	if want.Type() == xssh.KeyAlgoRSA {
		algorithms = []string{xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256}
	}
	return hostKeys{algorithms: algorithms, check: func(_ string, _ net.Addr, key xssh.PublicKey) error {
		if bytes.Equal(key.Marshal(), want.Marshal()) {
			return nil
		}
		return refuse(HostKeyChanged, nil, "THE HOST KEY OF %s IS NOT THE ONE IN host_key. It shows %s; host_key is %s. Either the host was "+
			"installed anew, or somebody stands between and pretends to be it. If you know that it was installed anew, put its new key "+
			"into host_key.", t.address(), fingerprint(key), fingerprint(want))
	}}, nil
}
