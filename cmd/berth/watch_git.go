package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// gitSource is a configuration in a git repository: the newest commit of a branch or a tag, or just one commit. Each commit is fetched, without its
// history, into a directory of its own, and a link that is replaced at once leads to the one that counts: a kill leaves the old or the new one.
type gitSource struct {
	url, ref string // "" for the repository's own HEAD
	base     string // where the checkouts and the link to the current one are
	sub      string // the configuration's directory in the repository
	env      []string
	every    time.Duration // between two questions to the repository
	now      func() time.Time

	mu    sync.Mutex
	asked time.Time
	full  string // name of the ref, as the repository has it
	sha   string // of the commit that the repository has
}

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
func (g *gitSource) dir() string { return filepath.Join(g.base, "current", g.sub) }

// Version is the newest commit. The repository is asked now and then.
func (g *gitSource) Version(ctx context.Context) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.newest(ctx)
}

func (g *gitSource) newest(ctx context.Context) (string, error) {
	if !g.asked.IsZero() && g.now().Sub(g.asked) < g.every && g.sha != "" {
		return g.sha, nil
	}
	full, sha, err := g.ask(ctx)
	if err != nil {
		return "", err
	}
	g.full, g.sha, g.asked = full, sha, g.now()
	return sha, nil
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

// digest has the newest commit count from now on, and returns what tells it from others.
func (g *gitSource) digest(ctx context.Context) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	sha, err := g.newest(ctx)
	if err != nil {
		return "", err
	}
	link := filepath.Join(g.base, "current")
	if to, err := os.Readlink(link); err != nil || to != sha {
		if err := g.checkout(ctx, sha); err != nil {
			return "", err
		}
		if err := replaceLink(link, sha); err != nil {
			return "", err
		}
		g.tidy(sha)
	}
	info, err := os.Stat(g.dir())
	if err != nil || !info.IsDir() {
		return "", fmt.Errorf("commit %s of %s has no directory %q", sha, g.url, g.sub)
	}
	return "git:" + sha + ":" + g.sub, nil
}

// checkout brings the files of a commit, without history, hooks and submodules. A directory with the commit's name is whole.
func (g *gitSource) checkout(ctx context.Context, sha string) error {
	to := filepath.Join(g.base, sha)
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if err := os.MkdirAll(g.base, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(g.base, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, args := range [][]string{
		{"init", "--quiet", "--template=", tmp},
		{"-C", tmp, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", g.url, g.full},
		{"-C", tmp, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"},
	} {
		if _, err := g.git(ctx, gitFetchTimeout, args...); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(tmp, ".git")); err != nil {
		return err
	}
	return os.Rename(tmp, to)
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

// tidy takes away the checkouts of other commits, but those in which a state lies that its home did not take.
func (g *gitSource) tidy(sha string) {
	list, err := os.ReadDir(g.base)
	if err != nil {
		return // the next commit tries again
	}
	for _, e := range list {
		path := filepath.Join(g.base, e.Name())
		if rescued, _ := filepath.Glob(filepath.Join(path, g.sub, rescueFile+"*")); e.IsDir() && e.Name() != sha && len(rescued) == 0 {
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
