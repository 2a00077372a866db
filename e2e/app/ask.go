package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// ask is one pod of a job that does as it is told: URL. The test that it asks there answers when it likes, with an exit code and what is
// to be said before.
func ask(ctx context.Context, args []string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	query := url.Values{"pod": {host}, "index": {os.Getenv("JOB_COMPLETION_INDEX")}, "version": {os.Getenv("VERSION")}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0]+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if ctx.Err() != nil {
		return exitCode(143)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if ctx.Err() != nil {
		return exitCode(143)
	}
	if err != nil {
		return err
	}
	number, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	code, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	fmt.Println(text)
	if code != 0 {
		return exitCode(code)
	}
	return nil
}
