image "store" {
  base       = "scratch"
  entrypoint = ["/store"]

  copy "/store" {
    from = "bin/store"
  }
}

volume "store" { # no source named: a directory that stays on its pod's node
  namespace = namespace.shop.name
  capacity  = "1Gi"
}

workload "deployment" "store" {
  namespace = namespace.shop.name
  labels    = { app = "store" }

  strategy {
    type = "Recreate" # two stores must never share the file
  }

  container "store" {
    image = image.store.ref

    env "STORE_TOKEN" {
      value_from {
        secret_key_ref {
          name = secret.store.name
          key  = "token"
        }
      }
    }

    port "http" {
      container_port = 7000
    }

    readiness_probe {
      period_seconds = 1
      http_get {
        path = "/healthz"
        port = "http"
      }
    }

    volume_mount "data" {
      mount_path = "/data"
    }
  }

  volume "data" {
    persistent_volume_claim {
      claim_name = volume.store.name
    }
  }
}

service "store" {
  namespace = namespace.shop.name
  selector  = { app = "store" }

  port "http" {
    port        = 7000
    target_port = "http"
  }
}
