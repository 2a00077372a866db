package ssh

import (
	"errors"
	"io"
	"slices"
	"sync"
)

// resources are values that live as long as a connection.
type resources struct {
	mu     sync.Mutex
	ended  bool
	byKey  map[string]*resource
	opened []io.Closer // in order of making
}

type resource struct {
	mu    sync.Mutex
	have  bool
	value any
}

// errEnded: the connection that the value would live on has ended.
var errEnded = errors.New("the connection has ended")

func (r *resources) get(key string, make func() (any, error)) (any, error) {
	one, err := r.of(key)
	if err != nil {
		return nil, err
	}
	one.mu.Lock() // others who want the same key wait; other keys do not
	defer one.mu.Unlock()
	if one.have {
		return one.value, nil
	}
	v, err := make()
	if err != nil {
		return nil, err
	}
	if err := r.opens(v); err != nil {
		return nil, err
	}
	one.value, one.have = v, true
	return v, nil
}

func (r *resources) of(key string) (*resource, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil, errEnded
	}
	if r.byKey == nil {
		r.byKey = map[string]*resource{}
	}
	one := r.byKey[key]
	if one == nil {
		one = &resource{}
		r.byKey[key] = one
	}
	return one, nil
}

// opens remembers v for close, or closes it now when the connection ended while it was made.
func (r *resources) opens(v any) error {
	c, ok := v.(io.Closer)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		if ok {
			return errors.Join(errEnded, c.Close())
		}
		return errEnded
	}
	if ok {
		r.opened = append(r.opened, c)
	}
	return nil
}

// close closes the values, last made first. Their errors say only that the connection is gone, which is known.
func (r *resources) close() {
	r.mu.Lock()
	opened := r.opened
	r.ended, r.opened = true, nil
	r.mu.Unlock()
	for _, c := range slices.Backward(opened) {
		_ = c.Close()
	}
}
