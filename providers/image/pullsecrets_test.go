package image

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
)

func pullSecret(keys ...string) *corev1.Secret {
	var entries []string
	for i, k := range keys {
		entries = append(entries, fmt.Sprintf(`%q:{"username":"u%d","password":"p"}`, k, i))
	}
	return &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: []byte(`{"auths":{` + strings.Join(entries, ",") + `}}`),
	}}
}

// TestPullCredentials checks which entries are meant for an image and in what order they are tried, by Kubernetes' rules.
func TestPullCredentials(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		image string
		keys  []string
		want  []string // the user's number is the key's
	}{
		{"the host", "r.example.com/team/app:1", []string{"r.example.com", "other.example.com"}, []string{"u0"}},
		{"longest first", "r.example.com/team/app:1", []string{"r.example.com", "r.example.com/team/app", "https://r.example.com/v2/team"}, []string{"u1", "u2", "u0"}},
		{"another path", "r.example.com/team/app:1", []string{"r.example.com/other"}, nil},
		{"port", "r.example.com:5000/app", []string{"r.example.com", "r.example.com:5000", "http://r.example.com:5000/"}, []string{"u1", "u2"}},
		{"pattern", "a.r.example.com/app", []string{"*.r.example.com", "*.example.com", "*.*.example.com"}, []string{"u0", "u2"}},
		{"Docker Hub", "nginx", []string{"https://index.docker.io/v1/", "docker.io", "ghcr.io"}, []string{"u0", "u1"}},
		{"Docker Hub, one user's", "me/app", []string{"docker.io/you", "docker.io/me"}, []string{"u1"}},
		{"no address", "nginx", []string{"%%%"}, nil},
	} {
		ref, err := name.ParseReference(tt.image)
		if err != nil {
			t.Fatal(err)
		}
		auths, err := pullCredentials([]*corev1.Secret{pullSecret(tt.keys...)}, ref.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range auths {
			got = append(got, a.Username)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestReadPullSecret(t *testing.T) {
	t.Parallel()
	old := &corev1.Secret{Type: corev1.SecretTypeDockercfg, StringData: map[string]string{corev1.DockerConfigKey: `{"r.example.com":{"auth":"dXNlcjpwYXNz"}}`}}
	entries, err := readPullSecret(old)
	if e := entries["r.example.com"]; err != nil || e.Username != "user" || e.Password != "pass" {
		t.Errorf("the older form: %+v, %v", entries, err)
	}
	bad := pullSecret()
	bad.Data[corev1.DockerConfigJsonKey] = []byte(`{"auths": "hunter2"}`)
	if _, err := readPullSecret(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret that cannot be read: %v", err)
	}
}
