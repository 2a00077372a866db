package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keys are what is offered to a host, in order: certificates before the bare keys they belong to, named files before the
// agent's keys, because servers end a login after six offers.
type keys struct {
	signers []xssh.Signer
	offered []string // what each is, for the error when none was accepted
	notes   []string // why some were not offered
	close   func()   // ends the talk with the agent
}

// keysFor collects the keys for a target.
func keysFor(ctx context.Context, t *target) (*keys, error) {
	k := &keys{close: func() {}}
	fromAgent := k.askAgent(ctx, t.agentSocket)
	for _, id := range t.identities {
		if err := k.addFile(id, fromAgent); err != nil {
			k.close()
			return nil, err
		}
	}
	if err := k.addCertificates(t.certificates); err != nil {
		k.close()
		return nil, err
	}
	if !t.onlyThese {
		for _, s := range fromAgent {
			k.add(s, "agent key")
		}
	}
	return k, nil
}

// add appends a signer unless the same public key is there.
func (k *keys) add(s xssh.Signer, what string) {
	for _, have := range k.signers {
		if bytes.Equal(have.PublicKey().Marshal(), s.PublicKey().Marshal()) {
			return
		}
	}
	k.signers = append(k.signers, s)
	k.offered = append(k.offered, what+" "+fingerprint(s.PublicKey()))
}

// askAgent returns the agent's keys; an agent that does not answer is a note, since other keys may do.
func (k *keys) askAgent(ctx context.Context, socket string) []xssh.Signer {
	if socket == "" {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		k.notes = append(k.notes, fmt.Sprintf("the ssh agent does not answer: %v", err))
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	k.close = func() { stop(); _ = conn.Close() }
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		k.notes = append(k.notes, fmt.Sprintf("the ssh agent does not list its keys: %v", err))
	}
	return signers
}

// addFile adds the key of an identity file and the certificate beside it. A file may hold just the public key of one that the
// agent has.
func (k *keys) addFile(id identityFile, fromAgent []xssh.Signer) error {
	text, err := os.ReadFile(id.path)
	if errors.Is(err, fs.ErrNotExist) && !id.wanted {
		return nil
	}
	if err != nil {
		return refuse(BadSettings, err, "read the SSH key: %v. Correct identity_file.", err)
	}
	signer, err := signerOf(text, fromAgent)
	if err != nil {
		note := fmt.Sprintf("the SSH key %s %v", id.path, err)
		if id.wanted {
			return refuse(BadSettings, err, "%s", note)
		}
		k.notes = append(k.notes, strings.TrimSuffix(note, "."))
		return nil
	}
	if cert, err := certificate(id.path+"-cert.pub", signer); err == nil {
		k.add(cert, "certificate "+id.path+"-cert.pub")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return refuse(BadSettings, err, "use the certificate %s-cert.pub: %v. Renew or remove it.", id.path, err)
	}
	k.add(signer, id.path)
	return nil
}

// signerOf reads a private key. Of an encrypted one or a public one the agent has to have the private half.
func signerOf(text []byte, fromAgent []xssh.Signer) (xssh.Signer, error) {
	signer, err := xssh.ParsePrivateKey(text)
	if err == nil {
		return signer, nil
	}
	public, _, _, _, pubErr := xssh.ParseAuthorizedKey(text)
	var locked *xssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		public = locked.PublicKey
	case pubErr != nil:
		return nil, fmt.Errorf("is not a private key that can be used (%w). Name another in identity_file", err)
	}
	for _, s := range fromAgent {
		if public != nil && bytes.Equal(s.PublicKey().Marshal(), public.Marshal()) {
			return s, nil
		}
	}
	if locked != nil {
		return nil, errors.New("is protected by a passphrase and the ssh agent does not have it. Add it with ssh-add")
	}
	return nil, errors.New("is a public key whose private half the ssh agent does not have. Add that with ssh-add")
}

func certificate(path string, signer xssh.Signer) (xssh.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := xssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, err
	}
	cert, ok := public.(*xssh.Certificate)
	if !ok {
		return nil, errors.New("it is not a certificate")
	}
	return xssh.NewCertSigner(cert, signer)
}

// addCertificates puts each CertificateFile before the key that it certifies.
func (k *keys) addCertificates(paths []string) error {
	for _, path := range paths {
		err := errors.New("no key that it certifies is at hand")
		for _, s := range k.signers {
			var cert xssh.Signer
			if cert, err = certificate(path, s); err == nil {
				k.signers = append([]xssh.Signer{cert}, k.signers...)
				k.offered = append([]string{"certificate " + path}, k.offered...)
				break
			}
		}
		if err != nil {
			return refuse(BadSettings, err, "use the certificate %s: %v. Correct CertificateFile in the ssh configuration.", path, err)
		}
	}
	return nil
}

// refused explains a login that the host did not accept.
func (k *keys) refused(t *target, err error) error {
	notes := ""
	if len(k.notes) > 0 {
		notes = " (" + strings.Join(k.notes, "; ") + ")"
	}
	if len(k.signers) == 0 {
		return refuse(LoginRefused, err, "there is no SSH key to log in to %s as %s%s. Name one with identity_file in the node's ssh block, "+
			"or add one to the ssh agent with ssh-add.", t.address(), t.user, notes)
	}
	return refuse(LoginRefused, err, "%s refuses to let %s log in with any of these keys: %s%s. Add the public key to that account's "+
		"~/.ssh/authorized_keys on the host, or correct user or identity_file. A server with PermitRootLogin no says the same "+
		"to root.", t.address(), t.user, strings.Join(k.offered, ", "), notes)
}

func fingerprint(key xssh.PublicKey) string { return key.Type() + " " + xssh.FingerprintSHA256(key) }
