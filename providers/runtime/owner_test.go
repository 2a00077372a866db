package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

// Lines of owners' files are read whatever stands between them; what names a path, or nobody, or a pod that is there, tells nothing.
func TestRemainsOf(t *testing.T) {
	const said = `{"address":"deployment.web","namespace":"dev","name":"web-2","uid":"u2","lineage":"l"}
/var/lib/berth/pods/u1/volumes/kubernetes.io~configmap/page/..data/app.conf: FAILED
{"address":"deployment.web","namespace":"dev","name":"web-1","uid":"u1","lineage":"l"}
{"address":"deployment.web","namespace":"dev","name":"here","uid":"here","lineage":"l"}
{"address":"deployment.web","namespace":"dev","name":"web-3","uid":"../u3","lineage":"l"}
{"address":"deployment.web","namespace":"../dev","name":"web-4","uid":"u4","lineage":"l"}
{"address":"!","namespace":"dev","name":"web-5","uid":"u5","lineage":"l"}
{"address":"deployment.web","names
`
	of := func(name, uid string) api.ObservedRemains {
		return api.ObservedRemains{Address: api.Address{Kind: api.KindDeployment, Name: "web", Pod: name}, Namespace: "dev", Name: name, UID: uid, Lineage: "l"}
	}
	want := []api.ObservedRemains{of("web-1", "u1"), of("web-2", "u2")}
	if d := cmp.Diff(want, remainsOf([]byte(said), func(uid string) bool { return uid == "here" })); d != "" {
		t.Error(d)
	}
}
