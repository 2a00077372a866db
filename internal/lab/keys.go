package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// keys are the lab's own; they open nothing else.
type keys struct {
	authorized []byte            // the line for authorized_keys
	host       map[string][]byte // private key of each host, by node name
}

// makeKeys makes the key that opens the hosts and each host's own key, and writes the files of a client.
func (l *Lab) makeKeys() (keys, error) {
	k := keys{host: map[string][]byte{}}
	private, public, err := newKey("berth lab " + l.Name())
	if err != nil {
		return k, err
	}
	k.authorized = ssh.MarshalAuthorizedKey(public)
	if err := os.WriteFile(l.Identity(), private, 0o600); err != nil {
		return k, err
	}
	if err := os.WriteFile(l.Identity()+".pub", k.authorized, 0o644); err != nil {
		return k, err
	}
	var known strings.Builder
	for _, n := range l.nodes {
		private, public, err := newKey(n.Name)
		if err != nil {
			return k, err
		}
		k.host[n.Name] = private
		fmt.Fprintln(&known, knownhosts.Line(n.knownAs(), public))
	}
	return k, os.WriteFile(l.KnownHosts(), []byte(known.String()), 0o644)
}

func newKey(comment string) (private []byte, public ssh.PublicKey, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(priv, comment)
	if err != nil {
		return nil, nil, err
	}
	public, err = ssh.NewPublicKey(pub)
	return pem.EncodeToMemory(block), public, err
}
