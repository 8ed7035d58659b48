# A token for the providers of a configuration, from an API key in the environment:
# TOKENBOOTH_CLIENT_SECRET or TOKENBOOTH_CLIENT_SECRET_FILE. The secret never gets into
# the state; the token does, and is good for minutes.

terraform {
  required_version = ">= 1.3"
  required_providers {
    external = {
      source  = "hashicorp/external"
      version = "~> 2.3"
    }
  }
}

variable "url" {
  description = "Where the Tokenbooth is, such as https://login.example.com."
  type        = string
}

variable "scope" {
  description = "Narrow the token to these scopes. Without any it has all that the key holds."
  type        = list(string)
  default     = []
}

variable "audience" {
  description = "Whom the token is for. Without any it is for the key's first audience."
  type        = list(string)
  default     = []
}

data "external" "login" {
  program = [
    "env",
    "TOKENBOOTH_URL=${var.url}",
    "TOKENBOOTH_SCOPE=${join(" ", var.scope)}",
    "TOKENBOOTH_AUDIENCE=${join(" ", var.audience)}",
    "sh", "${path.module}/../tokenbooth-login.sh", "terraform",
  ]
}

output "token" {
  description = "The token."
  value       = data.external.login.result.token
  sensitive   = true
}

output "key_expires_at" {
  description = "When the key itself expires (RFC 3339); empty if it does not."
  value       = data.external.login.result.key_expires_at
}
