package planfile

import (
	"bytes"
	"testing"
)

// FuzzRead reads plan files of any bytes: never a panic, and what is taken can be written and read again.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, samplePlan()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Write(&again, p); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := Read(&again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

// FuzzPlan does the same with what is inside of the compression.
func FuzzPlan(f *testing.F) {
	var b bytes.Buffer
	if err := writeVersion1(&b, samplePlan()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"format":"berth plan","version":1,"plan":{"steps":[{"id":0,"op":"record","address":"","after":[-1]}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := readVersion1(text)
		if err != nil {
			return
		}
		for i, s := range p.Steps {
			for _, before := range s.After {
				if before < 0 || before >= i {
					t.Fatalf("step %d waits for %d", i, before)
				}
			}
		}
	})
}
