package s3

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"berth.dev/berth/statefile"
)

// backupSuffix is in front of the names of documents that were replaced: the time, so that they sort by it.
const (
	backupSuffix = ".backup/"
	backupTime   = "20060102T150405.000000Z"
)

// Retain says how many documents that were replaced stay, and how long.
func (s *Store) Retain(n int, maxAge time.Duration) { s.keep, s.maxAge = max(1, n), maxAge }

// Backups returns the documents that were replaced.
func (s *Store) Backups(ctx context.Context) ([]statefile.Backup, error) {
	suffixes, err := s.list(ctx, backupSuffix)
	if err != nil {
		return nil, err
	}
	slices.Reverse(suffixes)
	var out []statefile.Backup
	for _, suffix := range suffixes {
		at, err := time.Parse(backupTime, strings.TrimPrefix(suffix, backupSuffix))
		if err != nil {
			continue // not ours
		}
		out = append(out, statefile.Backup{Name: s.where(suffix), At: at, Read: func(ctx context.Context) ([]byte, error) {
			o, err := s.get(ctx, suffix)
			if err == nil && o == nil {
				err = fmt.Errorf("%s is no longer kept", s.where(suffix))
			}
			if err != nil {
				return nil, err
			}
			return o.data, nil
		}})
	}
	return out, nil
}

// back up copies the document, if it still has that tag, within the bucket, and drops copies that are too many or too old.
func (s *Store) backUp(ctx context.Context, tag string, now time.Time) error {
	api, err := s.api(ctx)
	if err != nil {
		return err
	}
	in := &s3.CopyObjectInput{
		Bucket: &s.bucket, Key: aws.String(s.key + backupSuffix + now.UTC().Format(backupTime)),
		CopySource: aws.String(url.PathEscape(s.bucket) + "/" + (&url.URL{Path: s.key}).EscapedPath()), CopySourceIfMatch: &tag,
	}
	if id := s.config["kms_key_id"]; id != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = "aws:kms", &id
	}
	if _, err := api.CopyObject(ctx, in); err != nil {
		if status(err) == 412 || status(err) == 404 {
			return fmt.Errorf("write %s: %w", s.where(""), statefile.ErrConflict)
		}
		return fmt.Errorf("copy %s: %w", s.where(""), explain(err))
	}
	list, err := s.Backups(ctx)
	if err != nil {
		return err
	}
	for i, b := range list {
		if i >= s.keep || i > 0 && s.maxAge > 0 && now.Sub(b.At) > s.maxAge {
			if err := s.remove(ctx, backupSuffix+b.At.UTC().Format(backupTime)); err != nil {
				return err
			}
		}
	}
	return nil
}
