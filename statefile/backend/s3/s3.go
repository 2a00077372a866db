// Package s3 keeps a state in a bucket of Amazon S3 or of anything that speaks its protocol and honours conditional
// writes (If-Match, If-None-Match): there is no table beside it and nothing else to set up.
//
// KEY is the document, KEY.lock the lock and KEY.journal/FENCE/NUMBER what a run in progress has done. The lock is a lease: its
// holder writes it anew every ten seconds, and one that was not written for a minute, by the server's own clock, may be taken. A
// fencing number, which every holder raises, keeps the journals of two holders apart.
//
// Start with [Store], then lease.go; lock.go has the lock's object, journal.go the journal's.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	berth "berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

// Store is a state in a bucket.
type Store struct {
	seat crown.Seat

	bucket, key string
	config      map[string]string
	ttl         time.Duration // of the lock
	keep        int           // documents that were replaced
	maxAge      time.Duration
	api         func(context.Context) (*s3.Client, error)
}

var (
	_ statefile.Store    = (*Store)(nil)
	_ statefile.Keeper   = (*Store)(nil)
	_ statefile.Retainer = (*Store)(nil)
	_ statefile.Namer    = (*Store)(nil)
	_ statefile.Unlocker = (*Store)(nil)
)

// defaultTTL is how long a lock lasts that nobody renews.
const defaultTTL = time.Minute

// Keys are the attributes of backend "s3". Credentials come from where the AWS tools take them: the environment, shared files, roles.
func Keys() []string {
	return []string{"bucket", "key", "region", "endpoint", "use_path_style", "profile", "kms_key_id", "lock_ttl"}
}

// Open returns the store of a backend "s3" block. It makes no connection.
func Open(config map[string]string, _ string) (statefile.Store, error) {
	s := &Store{bucket: config["bucket"], key: strings.TrimPrefix(config["key"], "/"), config: config, ttl: defaultTTL, keep: berth.DefaultRetention.Backups}
	if s.bucket == "" || s.key == "" {
		return nil, errors.New(`bucket and key are needed, as in bucket = "infra" and key = "prod/berth.state"`)
	}
	pathStyle := false
	switch config["use_path_style"] {
	case "", "false":
	case "true":
		pathStyle = true
	default:
		return nil, fmt.Errorf("use_path_style %q: say true or false", config["use_path_style"])
	}
	if v, ok := config["lock_ttl"]; ok {
		ttl, err := time.ParseDuration(v)
		if err != nil || ttl < 5*time.Second || ttl > time.Hour {
			return nil, fmt.Errorf("lock_ttl %q: give a time from 5s to 1h, as in lock_ttl = \"1m\"", v)
		}
		s.ttl = ttl
	}
	if e := config["endpoint"]; e != "" && !strings.HasPrefix(e, "http://") && !strings.HasPrefix(e, "https://") {
		return nil, fmt.Errorf("endpoint %q is no http or https URL", e)
	}
	s.api = once(func(ctx context.Context) (*s3.Client, error) { return connect(ctx, config, pathStyle) })
	return s, nil
}

// connect finds credentials and region as the AWS tools do.
func connect(ctx context.Context, config map[string]string, pathStyle bool) (*s3.Client, error) {
	var options []func(*awsconfig.LoadOptions) error
	if r := config["region"]; r != "" {
		options = append(options, awsconfig.WithRegion(r))
	}
	if p := config["profile"]; p != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(p))
	}
	conf, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("find credentials for S3: %w", err)
	}
	if conf.Region == "" {
		conf.Region = "us-east-1" // servers other than Amazon's care little
		if config["endpoint"] == "" {
			return nil, errors.New("the region is missing: set region or AWS_REGION")
		}
	}
	return s3.NewFromConfig(conf, func(o *s3.Options) {
		o.UsePathStyle = pathStyle
		if e := config["endpoint"]; e != "" {
			o.BaseEndpoint = aws.String(e)
			// Servers other than Amazon's do not all know the newer checksums.
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	}), nil
}

func (s *Store) where(suffix string) string { return "s3://" + s.bucket + "/" + s.key + suffix }

// Names returns the places for messages.
func (s *Store) Names() statefile.Names {
	return statefile.Names{State: s.where(""), Journal: s.where(journalSuffix)}
}

const (
	lockSuffix    = ".lock"
	journalSuffix = ".journal/"
)

// object is what is kept under a key.
type object struct {
	data []byte
	etag string
	age  time.Duration // since it was written, by the server's clock
}

// get reads an object; nil when there is none.
func (s *Store) get(ctx context.Context, suffix string) (*object, error) {
	api, err := s.api(ctx)
	if err != nil {
		return nil, err
	}
	out, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(s.key + suffix)})
	if status(err) == http.StatusNotFound && code(err) != "NoSuchBucket" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.where(suffix), explain(err))
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.where(suffix), err)
	}
	o := &object{data: data, etag: aws.ToString(out.ETag)}
	if now, ok := serverTime(out.ResultMetadata); ok && out.LastModified != nil {
		o.age = now.Sub(*out.LastModified)
	}
	return o, nil
}

// put writes an object if it still has the tag ("": if there is none; any: whatever there is), and returns its new tag.
// ErrConflict means that it has not, and that nothing was written.
func (s *Store) put(ctx context.Context, suffix string, data []byte, tag string) (string, error) {
	api, err := s.api(ctx)
	if err != nil {
		return "", err
	}
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: aws.String(s.key + suffix), Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data)))}
	switch tag {
	case "":
		in.IfNoneMatch = aws.String("*")
	case whatever:
	default:
		in.IfMatch = &tag
	}
	if id := s.config["kms_key_id"]; id != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = "aws:kms", &id
	}
	out, err := api.PutObject(ctx, in)
	switch {
	case err == nil:
		return aws.ToString(out.ETag), nil
	case status(err) == http.StatusPreconditionFailed, status(err) == http.StatusConflict,
		status(err) == http.StatusNotFound && tag != "" && code(err) != "NoSuchBucket":
		// The library tries again after an error that may pass; then the first attempt may be what is in the way.
		if o, gerr := s.get(ctx, suffix); gerr == nil && o != nil && o.etag != tag && bytes.Equal(o.data, data) {
			return o.etag, nil
		}
		return "", fmt.Errorf("write %s: %w", s.where(suffix), statefile.ErrConflict)
	}
	return "", fmt.Errorf("write %s: %w", s.where(suffix), explain(err))
}

// whatever is the tag of an object that is replaced whatever it is.
const whatever = "*"

// Get reads the document.
func (s *Store) Get(ctx context.Context) ([]byte, string, error) {
	o, err := s.get(ctx, "")
	if err != nil || o == nil {
		return nil, "", err
	}
	return o.data, o.etag, nil
}

func status(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

func code(err error) string {
	var a smithy.APIError
	if errors.As(err, &a) {
		return a.ErrorCode()
	}
	return ""
}

// explain says what to do about errors that a person can do something about.
func explain(err error) error {
	switch {
	case code(err) == "NoSuchBucket":
		return fmt.Errorf("%w: make the bucket first", err)
	case status(err) == http.StatusForbidden:
		return fmt.Errorf("%w: the credentials must allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there", err)
	case status(err) == http.StatusNotImplemented:
		return fmt.Errorf("%w: this server does not know conditional writes, which the lock is made of", err)
	}
	return err
}
