package image

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// credential is what a pull secret says for one place at a registry.
type credential struct {
	host, path string // "*.example.com", "/team"
	auth       authn.AuthConfig
}

// pullCredentials are those of the secrets that are meant for a repository, the most specific first (semantics.md 1.10). Every one
// is to be tried.
func pullCredentials(secrets []*corev1.Secret, repo name.Repository) ([]authn.AuthConfig, error) {
	var found []credential
	for _, s := range secrets {
		entries, err := readPullSecret(s)
		if err != nil {
			return nil, fmt.Errorf("secret %s/%s: %w", s.Namespace, s.Name, err)
		}
		for key, auth := range entries {
			if c, err := newCredential(key, auth); err == nil && c.matches(repo) { // a key that is no address is for other tools
				found = append(found, c)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b credential) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), strings.Compare(b.host+b.path, a.host+a.path),
			strings.Compare(a.auth.Username, b.auth.Username), strings.Compare(a.auth.Password, b.auth.Password))
	})
	var out []authn.AuthConfig
	for _, c := range found {
		out = append(out, c.auth)
	}
	return out, nil
}

// readPullSecret reads either form of docker's configuration. What it holds is never part of an error.
func readPullSecret(s *corev1.Secret) (map[string]authn.AuthConfig, error) {
	key, isJSON := corev1.DockerConfigKey, s.Type == corev1.SecretTypeDockerConfigJson
	if isJSON {
		key = corev1.DockerConfigJsonKey
	}
	text := s.Data[key]
	if v, ok := s.StringData[key]; ok {
		text = []byte(v)
	}
	var file struct {
		Auths map[string]authn.AuthConfig `json:"auths"`
	}
	into := any(&file)
	if !isJSON {
		into = &file.Auths
	}
	if json.Unmarshal(text, into) != nil {
		return nil, fmt.Errorf("its %s is not a configuration of docker's", key)
	}
	return file.Auths, nil
}

// newCredential reads the key of an entry: a registry with or without scheme, version and path.
func newCredential(key string, auth authn.AuthConfig) (credential, error) {
	if !strings.Contains(key, "://") {
		key = "https://" + key
	}
	u, err := url.Parse(key)
	if err != nil {
		return credential{}, err
	}
	p := u.Path
	for _, version := range []string{"/v1", "/v2"} {
		if rest, ok := strings.CutPrefix(p, version); ok && (rest == "" || rest[0] == '/') {
			p = rest
		}
	}
	if u.Host == "docker.io" || u.Host == "registry-1.docker.io" {
		u.Host = name.DefaultRegistry
	}
	return credential{host: u.Host, path: strings.TrimSuffix(p, "/"), auth: auth}, nil
}

// matches compares host names part by part, in which * stands for anything, ports as they are, and paths by how they begin.
func (c credential) matches(repo name.Repository) bool {
	host, port, _ := strings.Cut(c.host, ":")
	haveHost, havePort, _ := strings.Cut(repo.RegistryStr(), ":")
	want, have := strings.Split(host, "."), strings.Split(haveHost, ".")
	if port != havePort || len(want) != len(have) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); !ok || err != nil {
			return false
		}
	}
	return strings.HasPrefix("/"+repo.RepositoryStr(), c.path)
}

// secretsAmong picks the secrets out of a step's objects, in the order of their addresses.
func secretsAmong(addresses []api.Address, objects map[api.Address]*api.Object) []*corev1.Secret {
	var out []*corev1.Secret
	for _, a := range addresses {
		if o := objects[a]; o != nil {
			if s, ok := o.Value.(*corev1.Secret); ok {
				out = append(out, s)
			}
		}
	}
	return out
}
