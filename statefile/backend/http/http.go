// Package http keeps a state behind Terraform's HTTP protocol, as GitLab, Gitea and many small servers speak it.
//
// The protocol has one document and one lock, and no conditional write: what is written is safe as long as the
// lock is. The journal of a run is a second document, at the address with "-journal" behind its path.
//
// Start with [Store], then lease.go; request.go speaks the protocol.
package http

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"berth.dev/berth/statefile"
)

// Store is a state behind an address.
type Store struct {
	client *client

	address, journal, lock, unlock *url.URL
	update, lockBy, unlockBy       string // methods
}

var (
	_ statefile.Store    = (*Store)(nil)
	_ statefile.Namer    = (*Store)(nil)
	_ statefile.Unlocker = (*Store)(nil)
)

// Keys are the attributes of backend "http": Terraform's, but for passwords and keys, which come from the environment.
func Keys() []string {
	keys := []string{"skip_cert_verification"}
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	return keys
}

// setting is one attribute, which a variable of the environment stands in for.
type setting struct{ key, env, otherwise string }

var settings = []setting{
	{"address", "TF_HTTP_ADDRESS", ""},
	{"update_method", "TF_HTTP_UPDATE_METHOD", http.MethodPost},
	{"lock_address", "TF_HTTP_LOCK_ADDRESS", ""},
	{"lock_method", "TF_HTTP_LOCK_METHOD", "LOCK"},
	{"unlock_address", "TF_HTTP_UNLOCK_ADDRESS", ""},
	{"unlock_method", "TF_HTTP_UNLOCK_METHOD", "UNLOCK"},
	{"journal_address", "BERTH_HTTP_JOURNAL_ADDRESS", ""},
	{"username", "TF_HTTP_USERNAME", ""},
	{"retry_max", "TF_HTTP_RETRY_MAX", "2"},
	{"retry_wait_min", "TF_HTTP_RETRY_WAIT_MIN", "1"},
	{"retry_wait_max", "TF_HTTP_RETRY_WAIT_MAX", "30"},
	{"client_ca_certificate_file", "BERTH_HTTP_CLIENT_CA_CERTIFICATE_FILE", ""},
	{"client_certificate_file", "BERTH_HTTP_CLIENT_CERTIFICATE_FILE", ""},
	{"client_private_key_file", "BERTH_HTTP_CLIENT_PRIVATE_KEY_FILE", ""},
}

// Open returns the store of a backend "http" block. It makes no connection. The password comes from TF_HTTP_PASSWORD.
func Open(config map[string]string, dir string) (statefile.Store, error) {
	value := values(config)
	s := &Store{update: value["update_method"], lockBy: value["lock_method"], unlockBy: value["unlock_method"]}
	if value["address"] == "" {
		return nil, errors.New(`address is missing: the URL of the state, as in address = "https://gitlab.example.org/api/v4/projects/7/terraform/state/prod"`)
	}
	for _, a := range []struct {
		key, otherwise string
		to             **url.URL
	}{
		{"address", "", &s.address},
		{"lock_address", value["address"], &s.lock},
		{"unlock_address", value["address"], &s.unlock},
		{"journal_address", "", &s.journal},
	} {
		text := value[a.key]
		if text == "" {
			text = a.otherwise
		}
		if text == "" {
			continue
		}
		u, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.key, err)
		}
		*a.to = u
	}
	if s.journal == nil {
		beside := *s.address
		beside.Path += "-journal"
		if beside.RawPath != "" {
			beside.RawPath += "-journal"
		}
		s.journal = &beside
	}
	var err error
	s.client, err = newClient(value, config["skip_cert_verification"], dir)
	return s, err
}

func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("it is no URL") // the error would show a password in it
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%q is no http or https URL", u.Redacted())
	case u.User != nil:
		return nil, errors.New("it holds a user or password, which everybody with the configuration could read: use username and TF_HTTP_PASSWORD")
	}
	return u, nil
}

// Names returns the place for messages.
func (s *Store) Names() statefile.Names {
	return statefile.Names{State: s.address.String(), Journal: s.journal.String()}
}

// Get reads the document.
func (s *Store) Get(ctx context.Context) ([]byte, string, error) {
	data, found, err := s.client.get(ctx, s.address)
	if err != nil || !found {
		return nil, "", err
	}
	return data, versionOf(data), nil
}

// versionOf makes any change of the content a new version: the protocol has no number for it.
func versionOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// journal is the document that the journal is kept in. Its serial grows with every write: GitLab asks for that.
type journal struct {
	Serial uint64 `json:"serial"`
	Lines  string `json:"berth_journal"`
}

func (s *Store) readJournal(ctx context.Context) (journal, error) {
	data, found, err := s.client.get(ctx, s.journal)
	if err != nil || !found || len(data) == 0 {
		return journal{}, err
	}
	var j journal
	if err := json.Unmarshal(data, &j); err != nil {
		return journal{}, fmt.Errorf("read the journal at %s: %w", s.journal, err)
	}
	return j, nil
}

// Journal reads the journal.
func (s *Store) Journal(ctx context.Context) ([]byte, error) {
	j, err := s.readJournal(ctx)
	if err != nil || j.Lines == "" {
		return nil, err
	}
	return []byte(j.Lines), nil
}

// ForceUnlock takes the lock from the holder with that ID.
func (s *Store) ForceUnlock(ctx context.Context, id string) error {
	body, err := json.Marshal(statefile.LockInfo{ID: id, Created: time.Unix(0, 0).UTC()})
	if err != nil {
		return err
	}
	a, err := s.client.try(ctx, s.unlockBy, s.unlock, body)
	if err != nil {
		return err
	}
	if a.status == http.StatusOK || a.status == http.StatusNoContent {
		return nil
	}
	return fmt.Errorf("unlock %s: %w", s.unlock, a.err())
}

func values(config map[string]string) map[string]string {
	out := map[string]string{}
	for _, s := range settings {
		out[s.key] = s.value(config)
	}
	return out
}

func (s setting) value(config map[string]string) string {
	if v, ok := config[s.key]; ok {
		return v
	}
	if v := getenv(s.env); v != "" {
		return v
	}
	return s.otherwise
}

// hint is what else a person should know about an answer.
func hint(status int, body []byte) string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(body[:min(len(body), 300)]), "\uFFFD"))
	switch status {
	case http.StatusUnauthorized:
		return "the server wants a user and a password: set username and TF_HTTP_PASSWORD"
	case http.StatusForbidden:
		return "the server refuses this user: GitLab lets only maintainers write and lock. " + text
	}
	return text
}
