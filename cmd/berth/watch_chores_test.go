package main

import "testing"

func TestSeveral(t *testing.T) {
	for _, tt := range []struct {
		n    int
		what string
		want string
	}{{1, "log", "1 log"}, {2, "old log", "2 old logs"}, {1, "address of nobody", "1 address of nobody"}, {3, "address of nobody", "3 addresses of nobody"}, {2, "file of a stopped script", "2 files of a stopped script"}} {
		if got := several(tt.n, tt.what); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{10 << 20: "10Mi", 24293406: "23Mi", 224259739618: "208Gi", 1000: "1k", 1 << 30: "1Gi"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
