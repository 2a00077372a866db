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

// What a load asks for in any case, however slow the machine is, if that takes no longer than loadMost.
const (
	loadAtLeast = 60
	loadAfter   = 10 // after it was told to stop
	loadMost    = 30 * time.Second
)

// load asks for one page after the other until standard input ends; it says "asks" after the first. With "keep" it keeps its connection as
// browsers and proxies do, else each request makes a new one.
func load(_ context.Context, args []string) error {
	keep := len(args) > 1 && args[1] == "keep"
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: !keep}}
	end := untilStdinEnds()
	r, more, until := report{Versions: map[string]int{}}, 0, time.Time{}
	for {
		if ended(end, 4*time.Millisecond) {
			if until.IsZero() {
				more, until = max(loadAfter, loadAtLeast-r.Requests), time.Now().Add(loadMost)
			}
			if more--; more < 0 || time.Now().After(until) {
				return json.NewEncoder(os.Stdout).Encode(r)
			}
		}
		start := time.Now()
		body, err := fetch(client, args[0])
		if r.Requests++; r.Requests == 1 {
			fmt.Println("asks")
		}
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
