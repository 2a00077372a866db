package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// report is what load prints at its end.
type report struct {
	Requests int            `json:"requests"`
	Failures []string       `json:"failures"` // the first ones
	Failed   int            `json:"failed"`
	Versions map[string]int `json:"versions"` // answers by version
	Slowest  time.Duration  `json:"slowest"`
}

// load asks for one page after the other until standard input ends. With "keep" it keeps its connection as
// browsers and proxies do, else each request makes a new one.
func load(_ context.Context, args []string) error {
	keep := len(args) > 1 && args[1] == "keep"
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: !keep}}
	end := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(end)
	}()
	r := report{Versions: map[string]int{}}
	for {
		select {
		case <-end:
			return json.NewEncoder(os.Stdout).Encode(r)
		case <-time.After(4 * time.Millisecond):
		}
		start := time.Now()
		body, err := fetch(client, args[0])
		r.Requests++
		r.Slowest = max(r.Slowest, time.Since(start))
		if err != nil {
			if r.Failed++; len(r.Failures) < 10 {
				r.Failures = append(r.Failures, time.Now().Format("15:04:05.000 ")+err.Error())
			}
			continue
		}
		version, _, _ := strings.Cut(body, " ")
		r.Versions[version]++
	}
}

func get(_ context.Context, args []string) error {
	body, err := fetch(&http.Client{Timeout: 10 * time.Second}, args[0])
	fmt.Print(body)
	return err
}

func fetch(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}
