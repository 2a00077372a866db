image "web" { # built here, without Docker, and carried to the nodes through SSH
  base       = "scratch"
  entrypoint = ["/web"]
  user       = "65532:65532"
  env        = { RELEASE = var.release }

  copy "/web" {
    from = "bin/web"
  }
}

config_map "web" {
  namespace = namespace.shop.name
  data = {
    greeting = var.greeting
    items    = join("\n", var.items)
  }
}

workload "deployment" "web" {
  namespace = namespace.shop.name
  labels    = { app = "web" }
  replicas  = var.replicas

  strategy {
    type = "RollingUpdate"
    rolling_update {
      max_surge       = 1
      max_unavailable = 0
    }
  }

  container "web" {
    image = image.web.ref

    env = { STORE = "http://${service.store.cluster_ip}:7000" }

    env "STORE_TOKEN" {
      value_from {
        secret_key_ref {
          name = secret.store.name
          key  = "token"
        }
      }
    }

    env "NODE_NAME" {
      value_from {
        field_ref {
          field_path = "spec.nodeName"
        }
      }
    }

    port "http" {
      container_port = 8080
    }

    resources {
      requests = { cpu = "50m", memory = "32Mi" }
      limits   = { memory = "128Mi" }
    }

    readiness_probe {
      period_seconds = 1
      http_get {
        path = "/healthz"
        port = "http"
      }
    }

    volume_mount "config" {
      mount_path = "/etc/shop"
    }
  }

  volume "config" {
    config_map {
      name = config_map.web.name
    }
  }
}

service "web" {
  namespace = namespace.shop.name
  type      = "NodePort"
  selector  = { app = "web" }

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30080
  }
}
