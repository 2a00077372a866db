inventory "toml" {
  path = "/var/lib/berth-lab/lab/nodes.toml" # what "berth lab up" writes; any file of your own will do
}

image "hello" { # built here, without Docker, and carried to the nodes through SSH
  base       = "scratch"
  entrypoint = ["/hello"]

  copy "/hello" {
    from = "bin/hello"
  }
}

workload "deployment" "hello" {
  labels   = { app = "hello" }
  replicas = 2

  container "hello" {
    image = image.hello.ref
  }
}

service "hello" {
  type     = "NodePort"
  selector = { app = "hello" }

  port "http" {
    port      = 8080
    node_port = 30081
  }
}
