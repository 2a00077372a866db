package e2e

import (
	"fmt"
	"testing"
)

const doomed = `
image "ghostly" {
  base       = "scratch"
  entrypoint = ["/app"]
  user       = "ghost"

  copy "/app" {
    from = %q
  }
}

workload "pod" "doomed" {
  restart_policy = "Never"

  container "app" {
    %s
  }

  volume "scratch" {}
}
`

// What only a host can find out about a container fails the step with the reason that Kubernetes has for it, in the runtime's words
// or the container's own, and the next apply can make it good.
func TestContainersThatCannotBe(t *testing.T) {
	s := begin(t, "")
	for _, tt := range []struct {
		name, container string
		words           []string
	}{
		{"no such program", "image = image.app.ref\ncommand = [\"/none\"]", []string{"Container cannot be started", "/none", "no such file or directory", "RunContainerError"}},
		{"no such user", "image = image.ghostly.ref", []string{"Container cannot be made", `The image runs as the user "ghost", which it does not know`, "CreateContainerError"}},
		{"a user by name that must not be root", "image = image.ghostly.ref\nsecurity_context {\n run_as_non_root = true\n}",
			[]string{"container has runAsNonRoot and image has non-numeric user (ghost), cannot verify user is non-root", "CreateContainerConfigError"}},
		{"the mount's path is taken", "image = image.app.ref\nvolume_mount \"scratch\" {\n mount_path = \"/app\"\n}", []string{"Container cannot be started", "/app", "RunContainerError"}},
		{"no such working directory", "image = image.app.ref\nworking_dir = \"/app/x\"", []string{"Container cannot be started", "mkdir /app: not a directory", "RunContainerError"}},
		{"never pulled", "image = \"example.invalid/none:1\"\nimage_pull_policy = \"Never\"", []string{"ErrImageNeverPull", `container image "example.invalid/none:1" is not present`, "pull policy of Never"}},
		{"its own last words", "image = image.app.ref\ncommand = [\"/app\", \"crash\", \"3\", \"I cannot go on\"]" + neverReady, []string{"Container failed", "exit code 3 (Error)", "I cannot go on"}},
		{"its log as its message", "image = image.app.ref\ncommand = [\"/app\", \"crash\", \"3\", \"as my log says\"]\ntermination_message_policy = \"FallbackToLogsOnError\"" + neverReady,
			[]string{"exit code 3 (Error)", "as my log says"}},
	} {
		t.Log(tt.name)
		s.write("main.hcl", fmt.Sprintf(doomed, programs.app, tt.container))
		s.fails(tt.words, "apply", "--auto-approve")
	}
	s.write("main.hcl", fmt.Sprintf(doomed, programs.app, "image = image.app.ref\nargs = [\"say\", \"well\", \"1\"]"))
	s.apply()
	s.settled()
}
