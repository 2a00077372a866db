package e2e

import "time"

// web is the configuration that most stories start from: some pods of the app behind a node port.
const web = `
variable "replicas" {
  type    = number
  default = 3
}

variable "env" {
  type    = map(string)
  default = {}
}

variable "zone" {
  type    = map(string)
  default = {}
}

workload "deployment" "web" {
  labels                    = { app = "web" }
  replicas                  = var.replicas
  progress_deadline_seconds = 300
  node_selector             = var.zone

  container "app" {
    image = image.app.ref
    env   = var.env

    port "http" {
      container_port = 8080
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      http_get {
        path = "/healthz"
        port = "http"
      }
    }
  }
}

service "web" {
  type     = "NodePort"
  selector = { app = "web" }

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30090
  }
}

output "ip" {
  value = service.web.cluster_ip
}
`

const webPort = 30090

// deadline is how long anything may take that takes seconds.
const deadline = 2 * time.Minute
