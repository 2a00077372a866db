package seal

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// Writer returns a writer whose whole content goes to w, encrypted, when it is closed. A nil sealer encrypts nothing.
func (s *Sealer) Writer(ctx context.Context, w io.Writer) io.WriteCloser {
	return &collector{ctx: ctx, s: s, to: w}
}

type collector struct {
	bytes.Buffer
	ctx context.Context
	s   *Sealer
	to  io.Writer
}

// Close encrypts.
func (c *collector) Close() error {
	data := c.Bytes()
	if c.s.Seals() {
		var err error
		if data, err = c.s.Seal(c.ctx, data); err != nil {
			return err
		}
	}
	_, err := c.to.Write(data)
	return err
}

// mostPlan bounds what is read as an encrypted plan file.
const mostPlan = 1 << 30

// Reader returns what was written to Writer. A file that is not encrypted is refused unless that is expected.
func (s *Sealer) Reader(ctx context.Context, r io.Reader) (io.Reader, error) {
	data, err := io.ReadAll(io.LimitReader(r, mostPlan+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > mostPlan:
		return nil, fmt.Errorf("it is larger than %d bytes", mostPlan)
	case !IsSealed(data) && s != nil && !s.takesPlain():
		return nil, &PlainError{s.what}
	case !IsSealed(data):
		return bytes.NewReader(data), nil
	}
	plain, _, err := s.Open(ctx, data)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(plain), nil
}
