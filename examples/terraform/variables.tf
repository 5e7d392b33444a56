variable "cluster" {
  description = "Name of the cluster, as `cluster` in irsad.yaml."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", var.cluster))
    error_message = "cluster is a DNS label of at most 40 characters."
  }
}

variable "documents_bucket_name" {
  description = "Bucket of the two public documents, as `issuer.store` in irsad.yaml. Its name is part of the issuer."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.documents_bucket_name))
    error_message = "documents_bucket_name is a bucket name of 3 to 63 characters, without dots."
  }
}

variable "documents_access" {
  description = "bucketPolicy lets anyone read exactly the two documents; external keeps the bucket closed, for CloudFront before it."
  type        = string
  default     = "bucketPolicy"

  validation {
    condition     = contains(["bucketPolicy", "external"], var.documents_access)
    error_message = "documents_access is bucketPolicy or external."
  }
}

variable "issuer_url" {
  description = "The issuer where documents_access is external, as `issuer.url` in irsad.yaml."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(https://[^?#]*[^?#/])?$", var.issuer_url))
    error_message = "issuer_url begins with https:// and has no slash at its end."
  }
}

variable "keyring_bucket_name" {
  description = "Private bucket of the keyring, as `keyring.store` in irsad.yaml, with a KMS key that seals. Empty keeps the keyring in Secrets of kube-system."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z0-9][a-z0-9-]{1,61}[a-z0-9])?$", var.keyring_bucket_name))
    error_message = "keyring_bucket_name is a bucket name of 3 to 63 characters, without dots, or empty."
  }
}

variable "control_plane_role_name" {
  description = "Role that the control-plane nodes have already, without a path. Empty makes one, and an instance profile."
  type        = string
  default     = ""
}

variable "oidc_provider" {
  description = "Who makes the IAM OIDC provider: irsad, once the documents are public, or terraform, before them."
  type        = string
  default     = "irsad"

  validation {
    condition     = contains(["irsad", "terraform"], var.oidc_provider)
    error_message = "oidc_provider is irsad or terraform."
  }
}

variable "roles" {
  description = "Whether irsad makes IAM roles for service accounts (none or manage), as `roles.mode` in irsad.yaml. It may then give any permission to roles of its path; set roles_boundary_arn."
  type        = string
  default     = "none"

  validation {
    condition     = contains(["none", "manage"], var.roles)
    error_message = "roles is none or manage."
  }
}

variable "roles_boundary_arn" {
  description = "Permissions boundary that each of these roles must have, as `roles.permissionsBoundary` in irsad.yaml."
  type        = string
  default     = ""
}
