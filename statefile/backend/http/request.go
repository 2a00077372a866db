package http

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the protocol's checksum, not for safety
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-cleanhttp"
)

// maxBody bounds what a server may send: a state of a hundred thousand pods has a quarter of that.
const maxBody = 1 << 30

// client speaks to one server.
type client struct {
	http               *http.Client
	username, password string
	retries            int // after the first attempt
	waitMin, waitMax   time.Duration
}

func getenv(name string) string { return os.Getenv(name) }

func newClient(value map[string]string, skipVerification, dir string) (*client, error) {
	c := &client{username: value["username"], password: getenv("TF_HTTP_PASSWORD")}
	for key, set := range map[string]func(int){
		"retry_max":      func(n int) { c.retries = n },
		"retry_wait_min": func(n int) { c.waitMin = time.Duration(n) * time.Second },
		"retry_wait_max": func(n int) { c.waitMax = time.Duration(n) * time.Second },
	} {
		n, err := strconv.Atoi(value[key])
		if err != nil || n < 0 || n > 3600 {
			return nil, fmt.Errorf("%s %q: give a number from 0 to 3600", key, value[key])
		}
		set(n)
	}
	if c.waitMin > c.waitMax {
		return nil, fmt.Errorf("retry_wait_min %s is greater than retry_wait_max %s", c.waitMin, c.waitMax)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch skipVerification {
	case "", "false":
	case "true":
		config.InsecureSkipVerify = true //nolint:gosec // asked for by name
	default:
		return nil, fmt.Errorf("skip_cert_verification %q: say true or false", skipVerification)
	}
	if err := certificates(config, value, dir); err != nil {
		return nil, err
	}
	transport := cleanhttp.DefaultPooledTransport()
	transport.TLSClientConfig = config
	transport.ResponseHeaderTimeout = time.Minute
	c.http = &http.Client{Transport: transport}
	return c, nil
}

// certificates loads what the files name, which may also stand in the variables that Terraform reads.
func certificates(config *tls.Config, value map[string]string, dir string) error {
	read := func(key, env string) ([]byte, error) {
		if path := value[key]; path != "" {
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			return b, nil
		}
		return []byte(getenv(env)), nil
	}
	ca, err := read("client_ca_certificate_file", "TF_HTTP_CLIENT_CA_CERTIFICATE_PEM")
	if err != nil {
		return err
	}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return errors.New("client_ca_certificate_file: there is no certificate in it")
		}
	}
	cert, err := read("client_certificate_file", "TF_HTTP_CLIENT_CERTIFICATE_PEM")
	if err != nil {
		return err
	}
	key, err := read("client_private_key_file", "TF_HTTP_CLIENT_PRIVATE_KEY_PEM")
	if err != nil || len(cert) == 0 && len(key) == 0 {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("client_certificate_file and client_private_key_file: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return nil
}

// answer is what the server said.
type answer struct {
	status int
	body   []byte
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// passing reports whether the same request may do better later.
func (a answer) passing() bool {
	return a.status == http.StatusTooManyRequests || a.status == http.StatusBadGateway || a.status == http.StatusServiceUnavailable || a.status == http.StatusGatewayTimeout
}

func (a answer) err() error {
	s := "the server answers " + strconv.Itoa(a.status) + " " + http.StatusText(a.status)
	if h := hint(a.status, a.body); h != "" {
		s += ": " + h
	}
	return errors.New(strings.TrimSpace(s))
}

// once makes one request. An error says nothing about whether the server has done it.
func (c *client) once(ctx context.Context, method string, to *url.URL, body []byte) (answer, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, to.String(), reader)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		sum := md5.Sum(body) //nolint:gosec // the protocol's
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
	}
	if c.username != "" || c.password != "" {
		req.SetBasicAuth(c.username, c.password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err // names method and address, without credentials
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", method, to, err)
	}
	return answer{resp.StatusCode, data}, nil
}

// try makes a request that may be made twice, again after errors that may pass.
func (c *client) try(ctx context.Context, method string, to *url.URL, body []byte) (answer, error) {
	for n := 0; ; n++ {
		a, err := c.once(ctx, method, to, body)
		if err == nil && !a.passing() || n >= c.retries || ctx.Err() != nil {
			return a, err
		}
		if err := c.wait(ctx, n); err != nil {
			return answer{}, err
		}
	}
}

// wait sleeps before the n-th attempt after the first.
func (c *client) wait(ctx context.Context, n int) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(min(c.waitMin<<min(n, 10), c.waitMax)):
		return nil
	}
}

// get reads a document; found is false when there is none.
func (c *client) get(ctx context.Context, from *url.URL) (data []byte, found bool, err error) {
	a, err := c.try(ctx, http.MethodGet, from, nil)
	switch {
	case err != nil:
		return nil, false, err
	case a.status == http.StatusOK:
		return a.body, true, nil
	case a.status == http.StatusNotFound, a.status == http.StatusNoContent:
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("read %s: %w", from, a.err())
}
