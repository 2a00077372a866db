variable "inventory" {
  description = "The hosts: what \"berth lab up\" writes, or a file of your own in the same form."
  type        = string
  default     = "/var/lib/berth-lab/lab/nodes.toml"
}

variable "greeting" {
  description = "What the page says on top."
  type        = string
  default     = "Welcome to the harbour shop"
}

variable "items" {
  description = "What is on offer."
  type        = list(string)
  default     = ["rope", "lantern", "anchor"]
}

variable "release" {
  description = "Goes into the web's image: another value is another image, and a rolling update."
  type        = string
  default     = "1.0"
}

variable "replicas" {
  description = "How many web pods."
  type        = number
  default     = 3

  validation {
    condition     = var.replicas >= 1
    error_message = "A shop without a front sells nothing: replicas must be at least 1."
  }
}

variable "token" {
  description = "What the web shows to the store to be let in."
  type        = string
  sensitive   = true
  default     = "only-good-for-a-demo"
}
