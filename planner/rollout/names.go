package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"strconv"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
)

// alphabet is upstream's for generated names: no vowels and nothing that looks like another, so no words arise.
const alphabet = "bcdfghjklmnpqrstvwxz2456789"

// templateHash is FNV-32a over the template's JSON and the content it refers to, in decimal, each character
// replaced by one of the alphabet (semantics.md 3.1).
func templateHash(t *corev1.PodTemplateSpec, content string) string {
	t = plainQuantities(t)
	b, err := json.Marshal(struct {
		Labels      map[string]string `json:"labels,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Spec        corev1.PodSpec    `json:"spec"`
		Content     string            `json:"content,omitempty"`
	}{t.Labels, t.Annotations, t.Spec, content})
	if err != nil {
		panic("rollout: pod template is not JSON: " + err.Error()) // a type of k8s.io/api: cannot happen
	}
	h := fnv.New32a()
	h.Write(b)
	out := []byte(strconv.FormatUint(uint64(h.Sum32()), 10))
	for i, c := range out {
		out[i] = alphabet[int(c)%len(alphabet)]
	}
	return string(out)
}

// plainQuantities returns a copy with every quantity as a plain number: 1Gi and 1073741824 are one template.
func plainQuantities(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	t = t.DeepCopy()
	for _, list := range [][]corev1.Container{t.Spec.InitContainers, t.Spec.Containers} {
		for i := range list {
			for _, r := range []corev1.ResourceList{list[i].Resources.Limits, list[i].Resources.Requests} {
				for name, q := range r {
					r[name] = plain(q)
				}
			}
		}
	}
	for i := range t.Spec.Volumes {
		if e := t.Spec.Volumes[i].EmptyDir; e != nil && e.SizeLimit != nil {
			q := plain(*e.SizeLimit)
			e.SizeLimit = &q
		}
	}
	return t
}

func plain(q resource.Quantity) resource.Quantity {
	return *resource.NewDecimalQuantity(*q.AsDec(), resource.DecimalExponent)
}

// Identity is what the names of new pods follow from.
type Identity struct {
	Lineage string
	Serial  uint64 // of the state that the plan was made from
	Owner   api.Address
	Hash    string // the template's
}

// maxBase is the length to which what a numbered name begins with is cut: with a dash and five characters it is a label then.
const maxBase = 57

// Pod returns the name and the uid of the n-th pod, the name beginning with base. The same identity and n give the same ones.
func (id Identity) Pod(base string, n int) (name, uid string) {
	seed := id.Lineage + "\x00" + strconv.FormatUint(id.Serial, 10) + "\x00" + id.Owner.String() + "\x00" + id.Hash + "\x00" + strconv.Itoa(n)
	sum := sha256.Sum256([]byte(seed))
	v := binary.BigEndian.Uint64(sum[:8])
	suffix := make([]byte, 5)
	for i := range suffix {
		suffix[i] = alphabet[v%uint64(len(alphabet))]
		v /= uint64(len(alphabet))
	}
	return cut(base, maxBase) + "-" + string(suffix), uuid.NewSHA1(uuid.NameSpaceOID, []byte(seed)).String()
}

func cut(s string, most int) string { return s[:min(len(s), most)] }
