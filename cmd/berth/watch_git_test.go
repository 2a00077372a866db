package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository is a bare repository and a clone of it that is committed in.
type repository struct {
	t    *testing.T
	bare string
	work string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t, filepath.Join(t.TempDir(), "shop.git"), filepath.Join(t.TempDir(), "work")}
	r.git("", "init", "--quiet", "--bare", "--initial-branch=main", r.bare)
	r.git("", "clone", "--quiet", r.bare, r.work)
	r.commit("one")
	return r
}

func (r *repository) git(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example", "GIT_CONFIG_GLOBAL=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit puts a text into prod/text of the branch main and returns the commit.
func (r *repository) commit(text string) string {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Join(r.work, "prod"), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.work, "prod", "text"), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.git(r.work, "checkout", "--quiet", "-B", "main")
	r.git(r.work, "add", "--all")
	r.git(r.work, "commit", "--quiet", "-m", text)
	r.git(r.work, "push", "--quiet", "origin", "main")
	return r.git(r.work, "rev-parse", "HEAD")
}

func (r *repository) source(ref string) *gitSource {
	r.t.Helper()
	s, err := newGitSource(r.bare+"#"+ref, "prod", time.Second, &Process{Env: os.Environ(), Now: time.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	s.base, s.every = filepath.Join(r.t.TempDir(), "git"), 0
	return s
}

// read is what is in the configuration that counts.
func (r *repository) read(s *gitSource) string {
	r.t.Helper()
	if _, err := s.Version(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if _, err := s.digest(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.dir(), "text"))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

func TestGitSource(t *testing.T) {
	r := newRepository(t)
	first := r.git(r.work, "rev-parse", "HEAD")
	r.git(r.work, "tag", "-a", "-m", "a release", "v1")
	r.git(r.work, "push", "--quiet", "origin", "v1")
	branch, tag, head, fixed := r.source("main"), r.source("v1"), r.source(""), r.source(first)
	version, err := branch.Version(t.Context())
	if err != nil || version != first {
		t.Fatalf("%q, %v; want %s", version, err, first)
	}
	for _, s := range []*gitSource{branch, tag, head, fixed} {
		if got := r.read(s); got != "one" {
			t.Errorf("%q: %q", s.ref, got)
		}
	}
	before, err := branch.digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := r.commit("two")
	if got := r.read(branch); got != "two" {
		t.Errorf("the branch is at %q", got)
	}
	after, err := branch.digest(t.Context())
	if err != nil || after == before || !strings.Contains(after, second) {
		t.Errorf("digest %q after %q, %v", after, before, err)
	}
	if got := r.read(head); got != "two" {
		t.Errorf("HEAD is at %q", got)
	}
	for _, s := range []*gitSource{tag, fixed} {
		if got := r.read(s); got != "one" {
			t.Errorf("%q has moved to %q", s.ref, got)
		}
	}
	if list, err := os.ReadDir(branch.base); err != nil || len(list) != 2 {
		t.Errorf("beside the link and its commit there are %v, %v", list, err)
	}
	// A checkout that a kill has left half done, and a link, are no hindrance.
	if err := os.MkdirAll(filepath.Join(branch.base, "new-123", ".git"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(branch.base, "current.new")); err != nil {
		t.Fatal(err)
	}
	r.commit("three")
	if got := r.read(branch); got != "three" {
		t.Errorf("after a kill: %q", got)
	}
	// What cannot be had leaves what was there.
	if err := os.Rename(r.bare, r.bare+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := branch.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "git ls-remote of "+r.bare) {
		t.Errorf("without the repository: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(branch.dir(), "text")); string(b) != "three" || err != nil {
		t.Errorf("without the repository: %q, %v", b, err)
	}
}

// The state that its home did not take stays, in whatever commit's checkout it lies.
func TestGitSourceKeepsRescuedStates(t *testing.T) {
	r := newRepository(t)
	s := r.source("main")
	r.read(s)
	old, err := filepath.EvalSymlinks(s.dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, rescueFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.commit("two")
	r.read(s)
	if _, err := os.Stat(filepath.Join(old, rescueFile)); err != nil {
		t.Error(err)
	}
}

// What came is stored as what was asked for only if it is that.
func TestGitSourceMoves(t *testing.T) {
	r := newRepository(t)
	first := r.git(r.work, "rev-parse", "HEAD")
	s := r.source("main")
	second := r.commit("two") // between ls-remote and fetch
	if err := s.checkout(t.Context(), "refs/heads/main", first); !errors.Is(err, errMoved) || !strings.Contains(err.Error(), second) {
		t.Errorf("another commit was fetched: %v", err)
	}
	if list, err := os.ReadDir(s.base); err != nil || len(list) != 0 {
		t.Errorf("it left %v, %v", list, err)
	}
	if d, err := s.digest(t.Context()); d != "" || err != nil {
		t.Errorf("%q counts, %v", d, err)
	}
	if got := r.read(s); got != "two" {
		t.Errorf("asked anew: %q", got)
	}
}

// Only Version asks the repository, and says that something is new when that is here.
func TestGitSourceVersion(t *testing.T) {
	r := newRepository(t)
	first := r.git(r.work, "rev-parse", "HEAD")
	s := r.source("main")
	now := time.Now()
	s.now, s.every = func() time.Time { return now }, time.Minute
	version := func(want string) {
		t.Helper()
		if got, err := s.Version(t.Context()); got != want || err != nil {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	digest := func(want string) {
		t.Helper()
		if got, err := s.digest(t.Context()); got != want || err != nil {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	version(first)
	digest("git:" + first + ":prod")
	second := r.commit("two")
	version(first)
	now = now.Add(time.Minute)
	digest("git:" + first + ":prod")
	version(first) // and fetches
	version(second)
	if err := os.Rename(r.bare, r.bare+".away"); err != nil {
		t.Fatal(err)
	}
	digest("git:" + second + ":prod")
	// Nobody knows what others have brought since.
	now = now.Add(time.Hour)
	digest("")
	if _, err := s.Version(t.Context()); err == nil {
		t.Fatal("the repository is away")
	}
	if err := os.Rename(r.bare+".away", r.bare); err != nil {
		t.Fatal(err)
	}
	version(second)
	version(second + ".1") // a round is made
	digest("git:" + second + ":prod")
}

// A watchdog starts with what it has when the repository is away, or its newest commit cannot be read.
func TestGitSourceStarts(t *testing.T) {
	r := newRepository(t)
	var warned []string
	begin := func(s *gitSource) (*gitSource, error) {
		next := r.source("main")
		next.base = s.base
		warned = nil
		return next, next.start(t.Context(), func(text string) { warned = append(warned, text) })
	}
	file := func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(r.work, "prod", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return r.commit(name + text)
	}
	file("berth.hcl", "berth {\n")
	s, err := begin(r.source("main"))
	if err == nil {
		t.Fatal("a configuration that cannot be read is taken, and no other is there")
	}
	good := file("berth.hcl", "berth {\n  cluster {\n  }\n}\n")
	if s, err = begin(s); err != nil || len(warned) != 0 {
		t.Fatal(err, warned)
	}
	current := func(want string) {
		t.Helper()
		if got, err := os.Readlink(filepath.Join(s.base, gitCurrent)); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	current(good)
	for range 2 { // commits: the last that can be read is not taken away
		broken := file("berth.hcl", "berth {\n")
		r.read(s)
		current(broken)
		file("other.hcl", "nothing {\n"+broken)
	}
	if s, err = begin(s); err != nil || len(warned) != 1 || !strings.Contains(warned[0], "Commit "+good+" counts") {
		t.Fatal(err, warned)
	}
	current(good)
	if d, err := s.digest(t.Context()); err != nil || strings.Contains(d, good) {
		t.Errorf("the newest commit is not told of: %q, %v", d, err)
	}
	if err := os.Rename(r.bare, r.bare+".away"); err != nil {
		t.Fatal(err)
	}
	if s, err = begin(s); err != nil || len(warned) != 2 || !strings.Contains(warned[0], "git ls-remote") {
		t.Fatal(err, warned)
	}
	current(good)
	if d, err := s.digest(t.Context()); d != "" || err != nil {
		t.Errorf("%q would be brought, %v", d, err)
	}
	if _, err = begin(r.source("main")); err == nil {
		t.Error("it starts with nothing")
	}
}

func TestGitSourceRefuses(t *testing.T) {
	r := newRepository(t)
	for _, text := range []string{"", "#main", "--upload-pack=touch owned", "-x#main", "https://ann:secret@git.example/x.git", "https://git.example/x y",
		r.bare + "#--upload-pack=x", r.bare + "#-f", r.bare + "#a..b", r.bare + "#a b", r.bare + "#a:b", r.bare + "#+main", r.bare + "#*", r.bare + "#x.lock", r.bare + "#.x", r.bare + "#x@{1}"} {
		_, err := newGitSource(text, "", time.Second, &Process{Now: time.Now})
		if err == nil && !strings.HasSuffix(text, "#+main") {
			t.Errorf("%q is taken", text)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is shown: %v", err)
		}
	}
	if _, err := newGitSource(r.bare, "../x", time.Second, &Process{Now: time.Now}); err == nil {
		t.Error("a directory outside is taken")
	}
	r.git(r.work, "tag", "both")
	r.git(r.work, "push", "--quiet", "origin", "refs/tags/both", "HEAD:refs/heads/both")
	for ref, word := range map[string]string{"none": `no branch or tag "none"`, "both": "is a branch and a tag"} {
		if _, err := r.source(ref).Version(t.Context()); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"refs/heads/both", "refs/tags/both"} {
		if _, err := r.source(ref).Version(t.Context()); err != nil {
			t.Error(err)
		}
	}
	ext := r.source("main")
	ext.url = "ext::sh -c 'touch " + filepath.Join(r.work, "owned") + "'"
	if _, err := ext.Version(context.WithoutCancel(t.Context())); err == nil {
		t.Error("a URL that is a command is taken")
	}
	if _, err := os.Stat(filepath.Join(r.work, "owned")); err == nil {
		t.Error("a URL was run as a command")
	}
}
