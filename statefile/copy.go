package statefile

import (
	"context"
	"fmt"
)

// Copy is the state as it may be kept on hosts: encrypted as the state is, or, where nothing encrypts it, without anything sensitive.
type Copy struct {
	Lineage string
	Serial  uint64
	Fence   uint64 // of the last run that began a step
	Sealed  bool   // all of the state is in it, encrypted
	Data    []byte // a document
}

// Copy makes a copy of the state as it is now.
func (f *File) Copy(ctx context.Context) (Copy, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.copy(ctx)
}

func (f *File) copy(ctx context.Context) (Copy, error) {
	sealed := sealedOf(f.store)
	c := Copy{Lineage: f.state.Lineage, Serial: f.state.Serial, Fence: f.written, Sealed: sealed.Seals()}
	if f.begun {
		c.Fence = f.fence
	}
	s := f.state
	var err error
	if !c.Sealed {
		if s, err = s.Bare(); err != nil {
			return c, fmt.Errorf("make a copy of the state: %w", err)
		}
	}
	if c.Data, err = encodeVersion1(s, c.Fence, f.info.Version); err == nil && c.Sealed {
		c.Data, err = sealed.Seal(ctx, c.Data)
	}
	if err != nil {
		return c, fmt.Errorf("make a copy of the state: %w", err)
	}
	return c, nil
}

// copyOut has a copy of what was just written kept elsewhere.
func (f *File) copyOut(ctx context.Context) error {
	c, err := f.copy(ctx)
	if err == nil {
		f.copies(ctx, c)
	}
	return err
}

// OpenCopy reads the document of a copy, decrypting it as the store decrypts.
func OpenCopy(ctx context.Context, store Store, data []byte) ([]byte, error) {
	return sealedOf(store).Unseal(ctx, data)
}
