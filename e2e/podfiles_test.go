package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const podFiles = `
config_map "app" {
  data        = { "app.conf" = "colour = blue\n", other = "x" }
  binary_data = { blob = "AAH/" }
}

secret "app" {
  data = { token = "s3cret" }
}

volume "data" {
  capacity       = "1Gi"
  reclaim_policy = "Delete"
}

workload "pod" "files" {
  labels        = { app = "files", tier = "back" }
  annotations   = { note = "two\nlines of \"text\"", "a.example/b" = "c" }
  node_selector = { "kubernetes.io/hostname" = "n1" }

  security_context {
    run_as_user = 1000
    fs_group    = 2000
  }

  container "app" {
    image = image.app.ref
    args  = ["say", "up", "1"]

    env "NAME" {
      value_from {
        field_ref {
          field_path = "metadata.name"
        }
      }
    }

    resources {
      requests = { cpu = "100m", memory = "16Mi" }
      limits   = { cpu = "1500m", memory = "48Mi" }
    }

    dynamic "volume_mount" {
      for_each = ["down", "all", "items", "none", "empty", "fast", "faster", "data"]
      labels   = [volume_mount.value]
      content {
        mount_path = "/${volume_mount.value}"
      }
    }

    volume_mount "data" {
      mount_path = "/part"
      sub_path   = "a/b"
    }

    volume_mount "data" {
      mount_path    = "/mine"
      sub_path_expr = "of-$(NAME)/logs"
    }

    volume_mount "all" {
      mount_path = "/one.conf"
      sub_path   = "app.conf"
    }

    dynamic "volume_mount" {
      for_each = ["dir", "file", "made", "madefile", "socket", "device"]
      labels   = [volume_mount.value]
      content {
        mount_path = "/host/${volume_mount.value}"
      }
    }
  }

  volume "down" {
    downward_api {
      default_mode = 256 # 0400

      item {
        path = "labels"
        field_ref {
          field_path = "metadata.labels"
        }
      }
      item {
        path = "deep/er/annotations"
        mode = 288 # 0440
        field_ref {
          field_path = "metadata.annotations"
        }
      }
      dynamic "item" {
        for_each = {
          name      = "metadata.name"
          namespace = "metadata.namespace"
          uid       = "metadata.uid"
          tier      = "metadata.labels['tier']"
          note      = "metadata.annotations['note']"
          absent    = "metadata.labels['absent']"
        }
        content {
          path = item.key
          field_ref {
            field_path = item.value
          }
        }
      }
      dynamic "item" {
        for_each = {
          cpu        = ["limits.cpu", "1"]
          millicpu   = ["limits.cpu", "1m"]
          memory     = ["limits.memory", "1Mi"]
          reqcpu     = ["requests.cpu", "1"]
          reqmemory  = ["requests.memory", "1"]
        }
        content {
          path = "amounts/${item.key}"
          resource_field_ref {
            container_name = "app"
            resource       = item.value[0]
            divisor        = item.value[1]
          }
        }
      }
    }
  }

  volume "all" {
    projected {
      default_mode = 288 # 0440

      source {
        config_map {
          name = config_map.app.name
        }
      }
      source {
        secret {
          name = secret.app.name

          item {
            key  = "token"
            path = "secret/token"
            mode = 256 # 0400
          }
        }
      }
      source {
        downward_api {
          item {
            path = "self/name"
            field_ref {
              field_path = "metadata.name"
            }
          }
        }
      }
      source {
        config_map {
          name     = "nobody"
          optional = true
        }
      }
    }
  }

  volume "items" {
    config_map {
      name         = config_map.app.name
      default_mode = 384 # 0600
      optional     = true

      item {
        key  = "app.conf"
        path = "here/app.conf"
      }
      item {
        key  = "blob"
        path = "blob"
        mode = 420 # 0644
      }
      item {
        key  = "none"
        path = "none"
      }
    }
  }

  volume "none" {
    secret {
      secret_name = "nobody"
      optional    = true
    }
  }

  volume "empty" {
    empty_dir {}
  }

  volume "fast" {
    empty_dir {
      medium     = "Memory"
      size_limit = "1Mi"
    }
  }

  volume "faster" {
    empty_dir {
      medium = "Memory"
    }
  }

  volume "data" {
    persistent_volume_claim {
      claim_name = volume.data.name
    }
  }

  dynamic "volume" {
    for_each = {
      dir      = ["/srv/files-e2e", "Directory"]
      file     = ["/srv/files-e2e/file", "File"]
      made     = ["/srv/files-e2e/made/deep", "DirectoryOrCreate"]
      madefile = ["/srv/files-e2e/madefile", "FileOrCreate"]
      socket   = ["/run/containerd/containerd.sock", "Socket"]
      device   = ["/dev/null", "CharDevice"]
    }
    labels = [volume.key]
    content {
      host_path {
        path = volume.value[0]
        type = volume.value[1]
      }
    }
  }
}
`

// A table of files: what the process reads, with modes and owners, against what the configuration says.
func TestPodFiles(t *testing.T) {
	s := begin(t, podFiles)
	node := s.lab.Node("n1")
	sh(t, t.Context(), node, "mkdir -p /srv/files-e2e && echo there >/srv/files-e2e/file")
	afterwards(t, node, "rm -rf /srv/files-e2e")
	s.apply()
	uid := string(s.pods("app=files")[0].UID)

	tests := []struct{ path, text, mode, owner string }{
		{"/down/labels", "app=\"files\"\ntier=\"back\"", "0440", "0:2000"},
		{"/down/deep/er/annotations", "a.example/b=\"c\"\nnote=\"two\\nlines of \\\"text\\\"\"", "0440", "0:2000"},
		{"/down/name", "files", "0440", "0:2000"},
		{"/down/namespace", "default", "0440", "0:2000"},
		{"/down/uid", uid, "0440", "0:2000"},
		{"/down/tier", "back", "0440", "0:2000"},
		{"/down/note", "two\nlines of \"text\"", "0440", "0:2000"},
		{"/down/absent", "", "0440", "0:2000"},
		{"/down/amounts/cpu", "2", "0440", "0:2000"},
		{"/down/amounts/millicpu", "1500", "0440", "0:2000"},
		{"/down/amounts/memory", "48", "0440", "0:2000"},
		{"/down/amounts/reqcpu", "1", "0440", "0:2000"},
		{"/down/amounts/reqmemory", "16777216", "0440", "0:2000"},
		{"/down", "", "2755", "0:2000"},
		{"/all/app.conf", "colour = blue\n", "0440", "0:2000"},
		{"/all/other", "x", "0440", "0:2000"},
		{"/all/secret/token", "s3cret", "0440", "0:2000"},
		{"/all/self/name", "files", "0440", "0:2000"},
		{"/one.conf", "colour = blue\n", "0440", "0:2000"},
		{"/items/here/app.conf", "colour = blue\n", "0640", "0:2000"},
		{"/items/blob", "\x00\x01\ufffd", "0644", "0:2000"}, // as JSON carries it
		{"/none", "", "2755", "0:2000"},
		{"/empty", "", "2777", "0:2000"},
		{"/fast", "", "2777", "0:2000"},
		{"/data", "", "2777", "0:2000"},
		{"/part", "", "2777", "0:2000"},
		{"/mine", "", "2777", "0:2000"},
		{"/host/file", "there\n", "0644", "0:0"},
		{"/host/dir", "", "0755", "0:0"},
		{"/host/made", "", "0755", "0:0"},
		{"/host/madefile", "", "0644", "0:0"},
		{"/host/device", "", "0666", "0:0"},
	}
	paths := []string{"/faster", "/host/socket", "/items/none"}
	for _, tt := range tests {
		paths = append(paths, tt.path)
	}
	got := s.look("files", paths...)
	for _, tt := range tests {
		f := got.Files[tt.path]
		if f.Error != "" || f.Text != tt.text || f.Mode != tt.mode || f.Owner != tt.owner {
			t.Errorf("%s: %+v\nwant %q, %s, %s", tt.path, f, tt.text, tt.mode, tt.owner)
		}
	}
	sizes := map[string]uint64{"/fast": 1 << 20, "/faster": 48 << 20}
	for path, want := range sizes {
		if f := got.Files[path]; !f.Tmpfs || f.Size != want {
			t.Errorf("%s: %+v, want %d bytes in memory", path, f, want)
		}
	}
	if f := got.Files["/all/secret/token"]; !f.Tmpfs {
		t.Errorf("the secret of a projected volume lies on the disk: %+v", f)
	}
	if f := got.Files["/items/none"]; !strings.Contains(f.Error, "no such file") {
		t.Errorf("an optional key that is not there: %+v", f)
	}
	put(s, "files", "/part/inside", "part")
	put(s, "files", "/mine/log", "mine")
	if got := sh(t, t.Context(), node, "cd /var/lib/berth/volumes/default/data && cat a/b/inside of-files/logs/log && stat -c %g a/b/inside"); got != "partmine2000" {
		t.Errorf("the volume holds %q", got)
	}
	if o := s.run("exec", "files", "--", "/app", "put", "/all/other"); o.code == 0 {
		t.Errorf("a file of a config map can be written: %s", o)
	}
	s.settled()
	s.ok("drift")
}

// Missing objects and keys are errors of the plan, with their place; optional ones make no files, and make them once they are there.
func TestMissingObjects(t *testing.T) {
	config := func(optional bool, objects string) string {
		return fmt.Sprintf(`
workload "deployment" "app" {
  labels           = { app = "app" }
  on_config_change = "update"

  container "app" {
    image = image.app.ref

    volume_mount "later" {
      mount_path = "/later"
    }
  }

  volume "later" {
    config_map {
      name     = "later"
      optional = %t

      item {
        key  = "text"
        path = "text"
      }
    }
  }
}
%s`, optional, objects)
	}
	const without, with = "config_map \"later\" {\n  data = { other = \"x\" }\n}\n", "config_map \"later\" {\n  data = { text = \"here\" }\n}\n"
	s := begin(t, config(false, ""))
	s.fails([]string{"on main.hcl line 16", `There is no config_map "later" in namespace "default"`}, "plan")
	s.write("main.hcl", config(false, without))
	s.fails([]string{"on main.hcl line 20", `The config_map "later" has no key "text"`}, "plan")

	s.write("main.hcl", config(true, ""))
	s.apply()
	before := s.identities()
	pod := s.pods("app=app")[0].Name
	read := func() string { return s.look(pod, "/later/text").Files["/later/text"].Text }
	s.write("main.hcl", config(true, without))
	s.apply()
	if f := s.look(pod, "/later/text").Files["/later/text"]; !strings.Contains(f.Error, "no such file") {
		t.Errorf("a file without a key: %+v", f)
	}
	s.write("main.hcl", config(true, with))
	s.says(s.apply(), "config_map.later changed: files updated in place")
	if got := read(); got != "here" {
		t.Errorf("the file holds %q", got)
	}
	s.write("main.hcl", config(true, ""))
	s.says(s.apply(), "config_map.later is gone: files updated in place")
	if f := s.look(pod, "/later/text").Files["/later/text"]; !strings.Contains(f.Error, "no such file") {
		t.Errorf("a file of a config map that is gone: %+v", f)
	}
	if d := cmp.Diff(before, s.identities()); d != "" {
		t.Errorf("containers (-before +after):\n%s", d)
	}
	s.settled()
	s.ok("drift")
}

const propagating = `
workload "pod" "spread" {
  node_selector = { "kubernetes.io/hostname" = "n1" }

  dynamic "container" {
    for_each = { private = "None", slave = "HostToContainer", shared = "Bidirectional" }
    labels   = [container.key]
    content {
      image = image.app.ref
      args  = ["say", "up", "1"]

      security_context {
        privileged = container.key == "shared"
      }

      volume_mount "share" {
        mount_path        = "/share"
        mount_propagation = container.value
      }
    }
  }

  volume "share" {
    host_path {
      path = "/srv/files-e2e-share"
    }
  }
}
`

// Mounts of the host reach the containers that asked for them, and mounts of a container that may reach the host.
func TestMountPropagation(t *testing.T) {
	s := begin(t, propagating)
	node := s.lab.Node("n1")
	sh(t, t.Context(), node, `dir=/srv/files-e2e-share && mkdir -p $dir && mount --bind $dir $dir && mount --make-rshared $dir && mkdir $dir/host $dir/pod`)
	cleanup(t, func(ctx context.Context) error {
		_, err := node.Exec(ctx, "sh", "-c", `dir=/srv/files-e2e-share; for m in $dir/host $dir/pod $dir; do umount $m 2>/dev/null; done; rm -rf $dir`)
		return err
	})
	s.apply()
	sh(t, t.Context(), node, "mount -t tmpfs -o size=64k tmpfs /srv/files-e2e-share/host && echo new >/srv/files-e2e-share/host/file")
	for container, want := range map[string]string{"private": "no such file or directory", "slave": "new", "shared": "new"} {
		o := s.run("exec", "spread", "-c", container, "--", "/app", "cat", "/share/host/file")
		s.says(o.stdout+o.stderr, want)
	}
	s.ok("exec", "spread", "-c", "shared", "--", "/app", "tmpfs", "/share/pod")
	if got := sh(t, t.Context(), node, "findmnt -n -o FSTYPE -M /srv/files-e2e-share/pod || true"); got != "tmpfs" {
		t.Errorf("the container's mount on the host: %q", got)
	}
	if o := s.run("exec", "spread", "-c", "slave", "--", "/app", "look", "/share/pod"); !strings.Contains(o.stdout, `"tmpfs":true`) {
		t.Errorf("the container's mount in its neighbour: %s", o)
	}
}

const bounded = `
workload "deployment" "app" {
  labels = { app = "app" }

  container "app" {
    image = image.app.ref

    volume_mount "scratch" {
      mount_path = "/scratch"
    }
  }

  volume "scratch" {
    empty_dir {
      size_limit = "64Ki"
    }
  }
}

workload "deployment" "layer" {
  labels = { app = "layer" }

  container "app" {
    image = image.app.ref

    resources {
      limits = { ephemeral-storage = "1Mi" }
    }
  }
}
`

// A pod that writes more to disk than it may, into its directory or into its container's own layer, is made anew by the next apply, which
// says why.
func TestPodsOverTheirLimitsOfDisk(t *testing.T) {
	s := begin(t, bounded)
	s.apply()
	s.settled()
	s.ok("drift")
	layer := s.pods("app=layer")[0].Name
	put(s, layer, "/much", strings.Repeat("x", 2_000_000))
	first := s.pods("app=app")[0].Name
	put(s, first, "/scratch/much", strings.Repeat("x", 100_000))
	out := s.apply()
	s.says(out, `Usage of EmptyDir volume "scratch" exceeds the limit "64Ki"`)
	s.says(out, `Pod ephemeral local storage usage exceeds the total limit of containers 1Mi`)
	for app, was := range map[string]string{"app": first, "layer": layer} {
		if now := s.pods("app=" + app); len(now) != 1 || now[0].Name == was {
			t.Errorf("pods %v after %s was over its limit", names(now), was)
		}
	}
	s.says(s.ok("events"), "Evicted pod/"+layer+" Pod ephemeral local storage usage exceeds the total limit of containers 1Mi.",
		"Evicted pod/"+first+` Usage of EmptyDir volume "scratch" exceeds the limit "64Ki".`)
	s.settled()
}
