package servertest

import (
	"os/exec"
	"runtime"
	"syscall"
)

func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// start starts the command on a thread that lives as long as this process: the death signal is that of the thread.
func start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		_ = cmd.Process // the thread is kept by never unlocking it
		select {}
	}()
	return <-started
}
