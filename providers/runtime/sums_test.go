package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What sha256sum says of files is read by pod and volume, whatever their names are.
func TestAlteredFiles(t *testing.T) {
	const said = `/var/lib/berth/pods/u1/volumes/kubernetes.io~configmap/page/..data/app.conf: FAILED
/var/lib/berth/pods/u1/volumes/kubernetes.io~configmap/page/..data/a: FAILED/b: FAILED open or read
\/var/lib/berth/pods/u2/volumes/kubernetes.io~secret/key/..data/back\\slash: FAILED
/etc/passwd: FAILED
sha256sum: WARNING: 1 computed checksum did NOT match
`
	want := map[string][]string{"u1": {"page/a: FAILED/b", "page/app.conf"}, "u2": {`key/back\slash`}}
	if d := cmp.Diff(want, alteredFiles([]byte(said))); d != "" {
		t.Error(d)
	}
}
