package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"testing"

	"berth.dev/berth/internal/lab"
)

// report is what app's load command prints.
type report struct {
	Requests int
	Failed   int
	Failures []string
	Versions map[string]int
}

// client is a load that goes on until it is told to stop.
type client struct {
	name string
	stop func() (report, error)
}

// clients ask for a page without a break: from outside through the port of two nodes, and from a node through the
// cluster IP; with connections that are kept and with a new one for each request.
func clients(t *testing.T, l *lab.Lab, nodePort int, clusterURL string) []client {
	t.Helper()
	var out []client
	n1, n2, n3 := l.Nodes()[0], l.Nodes()[1], l.Nodes()[2]
	tool(t, n3)
	for _, mode := range []string{"keep", "once"} {
		for _, n := range []*lab.Node{n1, n2} {
			url := fmt.Sprintf("http://%s:%d/", n.Address, nodePort)
			out = append(out, startClient(t, mode+" from outside, "+url, exec.CommandContext(t.Context(), programs.app, "load", url, mode)))
		}
		cmd, err := n3.Command(t.Context(), "/run/e2e-app", "load", clusterURL, mode)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, startClient(t, mode+" from "+n3.Name+", "+clusterURL, cmd))
	}
	return out
}

// startClient starts a load, and returns when its first request has come to an end.
func startClient(t *testing.T, name string, cmd *exec.Cmd) client {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); line != "asks\n" {
		t.Fatalf("%s: %q, %v", name, line, err)
	}
	return client{name, func() (r report, err error) {
		in.Close()
		text, err := io.ReadAll(out)
		if err != nil {
			return r, err
		}
		if err := cmd.Wait(); err != nil {
			return r, err
		}
		return r, json.Unmarshal(text, &r)
	}}
}

// noneFailed stops the clients and checks that none of them noticed anything but another version. Each asks until it was answered often enough
// to say so, and the last answers come from what there is when it is stopped.
func noneFailed(t *testing.T, clients []client, versions ...string) {
	t.Helper()
	for _, c := range clients {
		r, err := c.stop()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		t.Logf("%s: %d requests, %d failed, %v", c.name, r.Requests, r.Failed, r.Versions)
		if r.Failed > 0 || r.Requests < 50 {
			t.Errorf("%s: %d of %d requests failed: %q", c.name, r.Failed, r.Requests, r.Failures)
		}
		for _, v := range versions {
			if r.Versions[v] == 0 {
				t.Errorf("%s: nothing was answered by version %s: %v", c.name, v, r.Versions)
			}
		}
	}
}
