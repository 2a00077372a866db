package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// newNamespaces makes a started process the first of a host. Its cgroup namespace is made later, by the boot script:
// it must be in its cgroups first.
func newNamespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
}

// keepOpen keeps a file open until it is told to close it or the process ends, whoever forgets about it: an os.File
// would be closed with the last reference to it.
func keepOpen(f *os.File) (closeIt func(), err error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return func() { _ = unix.Close(fd) }, nil
}

// startTime is when a process began, in ticks since the machine's boot.
func startTime(pid int) (string, error) {
	f, err := statFields(pid)
	if err != nil {
		return "", err
	}
	return f[19], nil
}

// alive is whether that very process still runs. A dead one whose parent has not asked for it does not.
func alive(p process) bool {
	f, err := statFields(p.Pid)
	return err == nil && f[19] == p.Start && f[0] != "Z" && f[0] != "X"
}

// statFields are the fields of /proc/PID/stat from the third, the state, on.
func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The name, in parentheses, may hold anything.
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return nil, fmt.Errorf("read process %d: unknown format", pid)
	}
	return f, nil
}

// kill ends that very process at once and waits until it and all of its pid namespace are gone.
func kill(ctx context.Context, p process) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill %d: %w", p.Pid, err)
	}
	defer unix.Close(fd)
	if !alive(p) { // looked at after opening: from here on the number cannot come to mean another process
		reap(p.Pid)
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %d: %w", p.Pid, err)
	}
	return poll(ctx, func(context.Context) error {
		if alive(p) {
			return fmt.Errorf("process %d still dies", p.Pid)
		}
		reap(p.Pid)
		return nil
	})
}

// reap takes a dead child off the process table; it does nothing for a process that is not our child.
func reap(pid int) {
	_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
}

// makeOpaque makes an overlay's upper folder hide the lower one instead of being merged with it.
func makeOpaque(path string) error {
	if err := unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return &fs.PathError{Op: "make opaque", Path: path, Err: err}
	}
	return nil
}

// makeWhiteout makes an overlay hide one name.
func makeWhiteout(path string) error {
	if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "hide", Path: path, Err: err}
	}
	return nil
}

// realFileSystem refuses a folder on which hosts cannot keep their disks.
func realFileSystem(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &fs.PathError{Op: "look at", Path: dir, Err: err}
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s lies on an overlay file system, which cannot hold the hosts' disks: choose a folder on ext4, xfs or tmpfs", dir)
	}
	return nil
}

// lockDir locks a folder against other processes and other goroutines until unlock is called.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	var f *os.File
	err = poll(ctx, func(context.Context) error {
		f, err = tryLock(dir)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// lockNewDir makes the folder if need be, also if the last one to leave removes it meanwhile.
func lockNewDir(ctx context.Context, dir string) (unlock func(), err error) {
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		unlock, err := lockDir(ctx, dir)
		if !errors.Is(err, fs.ErrNotExist) {
			return unlock, err
		}
	}
}

// tryLock is one attempt. A folder removed meanwhile does not count as locked.
func tryLock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, errors.Join(err, errHopeless)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another process has it")
	}
	have, err1 := f.Stat()
	want, err2 := os.Stat(dir)
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(have, want) {
		f.Close()
		return nil, errors.Join(errors.New("removed meanwhile"), err)
	}
	return f, nil
}

// hasSysResource is whether this process may lower an oom_score_adj, which containers' shims ask for.
func hasSysResource() bool {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return err == nil && caps>>unix.CAP_SYS_RESOURCE&1 == 1
}
