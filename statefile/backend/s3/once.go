package s3

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// once keeps the first result of make that is no error.
func once[T any](make func(context.Context) (T, error)) func(context.Context) (T, error) {
	var mu sync.Mutex
	var have bool
	var v T
	return func(ctx context.Context) (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if have {
			return v, nil
		}
		var err error
		v, err = make(ctx)
		have = err == nil
		return v, err
	}
}

// serverTime is the server's clock in an answer. Ages are told by it alone: nobody's own clock is believed.
func serverTime(m smithymiddleware.Metadata) (time.Time, bool) {
	if raw, ok := middleware.GetRawResponse(m).(*smithyhttp.Response); ok {
		if t, err := http.ParseTime(raw.Header.Get("Date")); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
