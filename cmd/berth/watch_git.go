package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/hcl"
)

// gitSource is a configuration in a git repository: the newest commit of a branch or a tag, or just one commit. Each commit is fetched, without its
// history, into a directory of its own, and a link that is replaced at once leads to the one that counts: a kill leaves the old or the new one.
// The repository is asked beside rounds, by Version; rounds only move the link. Another link leads to the last commit before it that can be read.
type gitSource struct {
	url, ref string // "" for the repository's own HEAD
	base     string // where the checkouts and the link to the current one are
	sub      string // the configuration's directory in the repository
	env      []string
	every    time.Duration // between two questions to the repository
	now      func() time.Time

	fetching sync.Mutex // held while the repository is asked

	mu     sync.Mutex // never held while the repository is asked
	asked  time.Time  // when the repository last said what is newest, and that was here; zero for never
	again  int        // how often it has after it had not for long
	ready  string     // the newest commit whose checkout is whole; "" before the first
	coming string     // the commit that is being fetched
	making string     // and the directory that it is fetched into
}

// mostMoves is how often a ref is asked for again at once that has moved while it was fetched.
const mostMoves = 3

// errMoved means that what was fetched is not what the repository had said.
var errMoved = errors.New("it has moved while it was fetched")

// How long git may take, and how often the repository is asked at most.
const (
	gitAskTimeout   = 30 * time.Second
	gitFetchTimeout = 5 * time.Minute
	gitSoonest      = time.Second
)

// newGitSource reads URL#REF.
func newGitSource(text, sub string, every time.Duration, p *Process) (*gitSource, error) {
	g := &gitSource{env: append(append([]string{}, p.Env...), "GIT_TERMINAL_PROMPT=0"), every: every, now: p.Now}
	g.url, g.ref, _ = strings.Cut(text, "#")
	if err := checkGitURL(g.url); err != nil {
		return nil, usageError{fmt.Errorf("--git: %w", err)}
	}
	if err := checkGitRef(g.ref); err != nil {
		return nil, usageError{fmt.Errorf("--git: %w", err)}
	}
	if sub != "" && !filepath.IsLocal(sub) {
		return nil, usageError{fmt.Errorf("--config: with --git it is a directory of the repository, and %q leads out of it", sub)}
	}
	if every < gitSoonest {
		return nil, usageError{fmt.Errorf("--git-every: %s is too often; write %s or more", every, gitSoonest)}
	}
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fail("git is not installed", "--git uses the program git, which is not in PATH. Install it.")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fail("No place for checkouts", fmt.Sprintf("%v: set HOME or XDG_CACHE_HOME.", err))
	}
	sum := sha256.Sum256([]byte(text))
	g.base, g.sub = filepath.Join(cache, "berth", "git", hex.EncodeToString(sum[:8])), sub
	return g, nil
}

// checkGitURL refuses what git would not take for a place, and secrets.
func checkGitURL(text string) error {
	switch {
	case text == "":
		return errors.New("write the URL of a repository, and #REF for a branch, a tag or a commit: https://git.example/shop.git#main")
	case strings.HasPrefix(text, "-"), strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("%q is not the URL of a repository", text)
	}
	if u, err := url.Parse(text); err == nil && u.User != nil {
		if _, secret := u.User.Password(); secret {
			return errors.New("the URL holds a password, which others would see among the processes: leave it to git's credential helpers")
		}
	}
	return nil
}

// checkGitRef applies the rules of git check-ref-format.
func checkGitRef(ref string) error {
	bad := strings.HasPrefix(ref, "-") || strings.HasPrefix(ref, "/") || strings.HasSuffix(ref, "/") || strings.HasSuffix(ref, ".") || strings.Contains(ref, "//") ||
		strings.Contains(ref, "..") || strings.Contains(ref, "@{") || ref == "@" || strings.ContainsAny(ref, "~^:?*[\\") ||
		strings.ContainsFunc(ref, func(r rune) bool { return r <= ' ' || r == 0x7f })
	for _, part := range strings.Split(ref, "/") {
		bad = bad || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return fmt.Errorf("%q is not the name of a branch, a tag or a commit", ref)
	}
	return nil
}

// dir is the configuration's directory: of whatever commit counts just now.
func (g *gitSource) dir() string { return filepath.Join(g.base, gitCurrent, g.sub) }

// Version tells the newest commit that was here in whole when it was called. One that the call fetches counts from the next one: whoever asks for
// the first time hears of it as of a change. The same goes for a repository that answers again. It is asked now and then.
func (g *gitSource) Version(ctx context.Context) (string, error) {
	g.fetching.Lock()
	defer g.fetching.Unlock()
	before, age := g.version()
	if age < g.every {
		return before, nil
	}
	sha, err := g.fetch(ctx)
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = g.now()
	if before == "" {
		return sha, nil
	}
	if age >= g.stale() {
		g.again++
	}
	return before, nil
}

// version is what Version has to tell, "" for nothing, and how old that is.
func (g *gitSource) version() (string, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	version := g.ready
	if g.again > 0 {
		version += fmt.Sprintf(".%d", g.again)
	}
	return version, g.age()
}

// age is how long ago the repository said what is newest.
func (g *gitSource) age() time.Duration {
	if g.asked.IsZero() {
		return math.MaxInt64
	}
	return g.now().Sub(g.asked)
}

// stale is the age from which on another commit may have been brought meanwhile, by another watchdog.
func (g *gitSource) stale() time.Duration { return 2*g.every + time.Second }

// fetch brings the newest commit's files.
func (g *gitSource) fetch(ctx context.Context) (sha string, err error) {
	for range mostMoves {
		var full string
		if full, sha, err = g.ask(ctx); err != nil {
			return "", err
		}
		if err = g.checkout(ctx, full, sha); !errors.Is(err, errMoved) {
			break
		}
	}
	return sha, err
}

// start has a configuration count that can be read: of the newest commit, or else of the last one that is here. warn takes what is not as it should be.
func (g *gitSource) start(ctx context.Context, warn func(string)) error {
	if _, err := g.Version(ctx); err != nil {
		old, gone := os.Readlink(filepath.Join(g.base, gitCurrent))
		if gone != nil || ctx.Err() != nil || !commitName.MatchString(old) {
			return err
		}
		if _, gone := os.Stat(filepath.Join(g.base, old)); gone != nil {
			return err
		}
		warn(fmt.Sprintf("%v: commit %s, which was fetched before, counts until the repository is reached", err, old))
		g.mu.Lock()
		g.ready = old
		g.mu.Unlock()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.point()
	if err == nil {
		if _, diags := hcl.Parse(g.dir()); diags.HasErrors() {
			err = diags.Err()
		}
	}
	if err == nil {
		return nil
	}
	last, gone := os.Readlink(filepath.Join(g.base, gitReadable))
	if gone != nil || !commitName.MatchString(last) || !readable(filepath.Join(g.base, last, g.sub)) {
		return err
	}
	warn(fmt.Sprintf("commit %s cannot be read, and changes nothing: %v. Commit %s counts", g.ready, err, last))
	return replaceLink(filepath.Join(g.base, gitCurrent), last)
}

// The links to checkouts.
const (
	gitCurrent  = "current"
	gitReadable = "readable" // the last that could be read before the current one
)

// readable reports whether there is a configuration without errors.
func readable(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	_, diags := hcl.Parse(dir)
	return !diags.HasErrors()
}

var commitName = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// ask finds the commit that the ref means.
func (g *gitSource) ask(ctx context.Context) (full, sha string, err error) {
	if commitName.MatchString(g.ref) {
		return g.ref, g.ref, nil
	}
	patterns := []string{"refs/heads/" + g.ref, "refs/tags/" + g.ref}
	switch {
	case g.ref == "":
		patterns = []string{"HEAD"}
	case strings.HasPrefix(g.ref, "refs/"):
		patterns = []string{g.ref}
	}
	out, err := g.git(ctx, gitAskTimeout, append([]string{"ls-remote", "--", g.url}, patterns...)...)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 2 || !commitName.MatchString(f[0]) {
			return "", "", fmt.Errorf("git says %q of %s", strings.TrimSpace(line), g.url)
		}
		if f[1] != patterns[0] && (len(patterns) < 2 || f[1] != patterns[1]) {
			continue // another whose name ends so
		}
		if full != "" {
			return "", "", fmt.Errorf("%s is a branch and a tag of %s: write refs/heads/%s or refs/tags/%s", g.ref, g.url, g.ref, g.ref)
		}
		full, sha = f[1], f[0]
	}
	if full == "" {
		return "", "", fmt.Errorf("%s has no branch or tag %q", g.url, g.ref)
	}
	return full, sha, nil
}

// digest has the newest commit count from now on, and returns what tells it from others; "" when it is not known which is the newest. It asks nobody.
func (g *gitSource) digest(context.Context) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ready == "" || g.age() >= g.stale() {
		return "", nil
	}
	if err := g.point(); err != nil {
		return "", err
	}
	return "git:" + g.ready + ":" + g.sub, nil
}

// point has the link lead to the newest commit that is here.
func (g *gitSource) point() error {
	sha := g.ready
	link := filepath.Join(g.base, gitCurrent)
	if old, err := os.Readlink(link); err != nil || old != sha {
		if err == nil && commitName.MatchString(old) && readable(filepath.Join(g.base, old, g.sub)) {
			if err := replaceLink(filepath.Join(g.base, gitReadable), old); err != nil {
				return err
			}
		}
		if err := replaceLink(link, sha); err != nil {
			return err
		}
		g.tidy(sha)
	}
	info, err := os.Stat(g.dir())
	if err != nil || !info.IsDir() {
		return fmt.Errorf("commit %s of %s has no directory %q", sha, g.url, g.sub)
	}
	return nil
}

// checkout brings the files of a commit, without history, hooks and submodules, which is the newest that can be had then. A directory with the
// commit's name is whole.
func (g *gitSource) checkout(ctx context.Context, full, sha string) error {
	g.set(&g.coming, sha) // nobody takes it away from now on
	defer g.set(&g.coming, "")
	to := filepath.Join(g.base, sha)
	if _, err := os.Stat(to); err == nil {
		g.set(&g.ready, sha)
		return nil
	}
	tmp, err := g.newDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, args := range [][]string{
		{"init", "--quiet", "--template=", tmp},
		{"-C", tmp, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", g.url, full},
	} {
		if _, err := g.git(ctx, gitFetchTimeout, args...); err != nil {
			return err
		}
	}
	got, err := g.git(ctx, gitAskTimeout, "-C", tmp, "rev-parse", "--verify", "FETCH_HEAD") // of a tag with a message, the tag, as ls-remote has it
	if err != nil {
		return err
	}
	if got = strings.TrimSpace(got); got != sha {
		return fmt.Errorf("%s of %s was at %s, and what came is %s: %w", full, g.url, sha, got, errMoved)
	}
	if _, err := g.git(ctx, gitFetchTimeout, "-C", tmp, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(tmp, ".git")); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	g.set(&g.ready, sha)
	return nil
}

func (g *gitSource) set(field *string, to string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*field = to
}

// newDir makes a directory to fetch into, which stays until the next one is made.
func (g *gitSource) newDir() (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := os.MkdirAll(g.base, 0o700); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(g.base, "new-")
	g.making = filepath.Base(tmp)
	return tmp, err
}

// replaceLink makes a link lead elsewhere, at once.
func replaceLink(link, to string) error {
	tmp := link + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(to, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, link)
}

// tidy takes away the checkouts of other commits, but the last one that can be read, what is being fetched, and those in which a state lies that its
// home did not take.
func (g *gitSource) tidy(sha string) {
	last, _ := os.Readlink(filepath.Join(g.base, gitReadable)) // "" where there is none
	keep := []string{sha, last, g.coming, g.making}
	list, err := os.ReadDir(g.base)
	if err != nil {
		return // the next commit tries again
	}
	for _, e := range list {
		path := filepath.Join(g.base, e.Name())
		if rescued, _ := filepath.Glob(filepath.Join(path, g.sub, rescueFile+"*")); e.IsDir() && !slices.Contains(keep, e.Name()) && len(rescued) == 0 {
			_ = os.RemoveAll(path) // what is left is taken away next time
		}
	}
}

// git runs git without a shell, hooks and commands of the repository's.
func (g *gitSource) git(parent context.Context, limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"}, args...)...)
	cmd.Env, cmd.WaitDelay = g.env, time.Second
	out, said := firstWords{most: 1 << 20}, firstWords{most: noticeOutput}
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case parent.Err() != nil:
		return "", context.Cause(parent)
	case ctx.Err() != nil:
		err = fmt.Errorf("it did not end within %s", limit)
	}
	verb := args[0]
	if verb == "-C" {
		verb = args[2]
	}
	return "", fmt.Errorf("git %s of %s: %w: %s", verb, g.url, err, oneLine(said.String()))
}
