# A web front and a store behind it: read this file first, then web.hcl and store.hcl.

berth {
  cluster {
    name = "shop"
  }
}

inventory "toml" {
  path = var.inventory
}

namespace "shop" {}

secret "store" {
  namespace   = namespace.shop.name
  string_data = { token = var.token }
}

output "url" {
  description = "The shop, on any node."
  value       = "http://${node.n1.address}:30080/"
}
