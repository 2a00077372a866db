package statecopy

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A copy comes back as it was packed, and one that was changed or cut anywhere is damaged, never another copy.
func TestPack(t *testing.T) {
	want := Copy{Lineage: "3f2c9b1e", Serial: 41, Fence: 7, Data: bytes.Repeat([]byte("a state "), 500)}
	p, err := Pack(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(p.text)
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v: %s", err, cmp.Diff(want, got))
	}
	head := bytes.IndexByte(p.text, '\n')
	for i := range p.text {
		if _, err := Unpack(p.text[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut after %d bytes: %v", i, err)
		}
		if i < len(magic) || i > head { // the words between are not what the checksum is about, and count for nothing but the order
			bad := bytes.Clone(p.text)
			bad[i] ^= 1
			if _, err := Unpack(bad); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	p, err := Pack(Copy{Lineage: "l", Serial: 1, Fence: 1, Data: []byte("{}")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.text)
	f.Add([]byte(magic + "l 1 1 00\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Unpack(text)
		if err != nil {
			return
		}
		p, err := Pack(c)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Unpack(p.text); err != nil || !cmp.Equal(again, c) {
			t.Fatalf("%v: %s", err, cmp.Diff(c, again))
		}
	})
}
