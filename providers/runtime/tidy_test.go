package runtime_test

import (
	"strings"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
)

// What a crash has left on a host goes, and what is in use stays: looked for on the host.
func TestTidy(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t, "serve"))
	j.must(api.OpPodEnsure)
	ip := f.sh(t, `ls `+api.CNILeases+` | grep '^10\.' | head -n 1`)
	f.sh(t, `set -e
cd `+api.CNILeases+`
touch -d '1 hour ago' "$1"
printf 'feedfacefeedface\r\neth0' >10.244.1.200
printf 'feedfacefeedface\r\neth0' >10.244.1.201
touch -d '1 hour ago' 10.244.1.200
echo x >`+api.ScratchPrefix+`0123456789
mkdir `+api.ScratchPrefix+`abcdefghij
echo x >`+api.ScratchPrefix+`abcdefghij/live
nl='
'
cd /tmp
mkdir -p etcetera
for f in "berth.x${nl}at 0 etcetera" "berth.zzzzzzzzz${nl}" "berth.x${nl}now 9999999999" berth.notes berth.theirs0000 berth.zzzzzzzzzzz; do echo x >"$f"; done
ln -s etcetera berth.linkednow0
chown 65534 berth.theirs0000
touch -h -d '2 hours ago' berth.abcdefghij berth.x* berth.zzzzzzzzz?* berth.notes berth.theirs0000 berth.linkednow0`, ip)
	others := `cd /tmp; ls -bd etcetera berth.x* berth.zzzzzzzzz?* berth.notes berth.theirs0000 berth.linkednow0`
	before := f.sh(t, others)
	w := &providers.Work{Lineage: lineage, Cluster: cluster, Fence: 0, Step: &api.Step{Node: f.node.Name}}
	got, err := runtime.Tidy(t.Context(), f, w)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Leases, " ") != "10.244.1.200" || strings.Join(got.Scratch, " ") != api.ScratchPrefix+"abcdefghij" || len(got.Containers)+len(got.Logs) != 0 {
		t.Errorf("took away %+v", got)
	}
	left := f.sh(t, `ls `+api.CNILeases+`; ls -d `+api.ScratchPrefix+`*`)
	for text, want := range map[string]bool{ip: true, "10.244.1.201": true, "10.244.1.200": false, "0123456789": true, "abcdefghij": false} {
		if strings.Contains(left, text) != want {
			t.Errorf("%s is there: %t\n%s", text, !want, left)
		}
	}
	if after := f.sh(t, others); after != before || strings.Count(after, "\n") != 7 {
		t.Errorf("of others there is\n%s\nof\n%s", after, before)
	}
	if again, err := runtime.Tidy(t.Context(), f, w); err != nil || !again.IsZero() {
		t.Errorf("once more: %+v, %v", again, err)
	}
	f.sh(t, `rm -f `+api.CNILeases+`/10.244.1.201; cd /tmp; rm -rf etcetera berth.0123456789 berth.x* berth.zzzzzzzzz?* berth.notes berth.theirs0000 berth.linkednow0`)
}
