package e2e

import (
	"testing"

	"berth.dev/berth/internal/lab"
)

// rich uses everything that leaves something on a host.
const rich = web + `
namespace "other" {}

secret "key" {
  namespace   = namespace.other.name
  string_data = { key = "very secret" }
}

config_map "conf" {
  namespace = namespace.other.name
  data      = { conf = "not secret" }
}

volume "data" {
  namespace      = namespace.other.name
  capacity       = "1Gi"
  reclaim_policy = "Delete"
}

workload "deployment" "store" {
  namespace = namespace.other.name
  labels    = { app = "store" }

  strategy {
    type = "Recreate"
  }

  container "app" {
    image = image.app.ref

    port "http" {
      container_port = 8080
    }

    volume_mount "data" {
      mount_path = "/data"
    }

    volume_mount "conf" {
      mount_path = "/conf"
    }

    volume_mount "key" {
      mount_path = "/key"
    }

    volume_mount "memory" {
      mount_path = "/memory"
    }

    volume_mount "scratch" {
      mount_path = "/scratch"
    }

    volume_mount "host" {
      mount_path = "/host"
      read_only  = true
    }
  }

  container "beside" {
    image = image.app.ref
    args  = ["say", "beside", "3"]
  }

  volume "data" {
    persistent_volume_claim {
      claim_name = volume.data.name
    }
  }

  volume "conf" {
    config_map {
      name = config_map.conf.name
    }
  }

  volume "key" {
    secret {
      secret_name = secret.key.name
    }
  }

  volume "memory" {
    empty_dir {
      medium = "Memory"
    }
  }

  volume "scratch" {
    empty_dir {}
  }

  volume "host" {
    host_path {
      path = "/etc"
      type = "Directory"
    }
  }
}

service "store" {
  namespace = namespace.other.name
  selector  = { app = "store" }

  port "http" {
    port        = 80
    target_port = "http"
  }
}
`

// Destroy leaves each host as it was before the first apply: processes, containers, images, mounts, devices, routes,
// rules, sysctls, files.
func TestDestroyLeavesHostsAsTheyWere(t *testing.T) {
	s := begin(t, rich)
	before := map[*lab.Node]map[string]string{}
	for _, n := range s.lab.Nodes() {
		before[n] = snapshot(t, t.Context(), n)
	}
	s.apply()
	s.settled()
	for _, n := range s.lab.Nodes() {
		if difference(before[n], snapshot(t, t.Context(), n)) == "" {
			t.Errorf("nothing of the apply can be seen on %s: the comparison is blind", n.Name)
		}
	}
	s.says(s.ok("destroy", "--auto-approve"), "Destroy complete!")
	for _, n := range s.lab.Nodes() {
		if d := difference(before[n], snapshot(t, t.Context(), n)); d != "" {
			t.Errorf("%s is not as it was:\n%s", n.Name, d)
		}
	}
	s.says(s.ok("plan", "--destroy"), "No changes.")
}
