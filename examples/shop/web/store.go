package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// store talks to the shop's other half.
type store struct {
	url, token string
	client     *http.Client
}

// counters asks for all counters.
func (s *store) counters(ctx context.Context) (map[string]int64, error) {
	all := map[string]int64{}
	return all, s.do(ctx, http.MethodGet, "/counters", &all)
}

// add counts one more and returns how many there are now.
func (s *store) add(ctx context.Context, name string) (n int64, err error) {
	err = s.do(ctx, http.MethodPost, "/counters/"+url.PathEscape(name), &n)
	return n, err
}

func (s *store) do(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the store says: %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return json.Unmarshal(body, into)
}
