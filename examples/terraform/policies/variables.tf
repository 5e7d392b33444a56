variable "partition" {
  description = "Partition of AWS, as in ARNs."
  type        = string
}

variable "account_id" {
  description = "Account of the nodes."
  type        = string
}

variable "cluster" {
  description = "Name of the cluster, as `cluster` in irsad.yaml."
  type        = string
}

variable "documents_bucket_name" {
  description = "Bucket of the two public documents."
  type        = string
}

variable "issuer" {
  description = "Issuer of the cluster's tokens."
  type        = string
}

variable "irsad_makes_provider" {
  description = "Whether irsad makes the IAM OIDC provider."
  type        = bool
}

variable "keyring_bucket_name" {
  description = "Private bucket of the keyring; empty where there is none."
  type        = string
}

variable "kms_key_arn" {
  description = "KMS key that seals; empty where there is none."
  type        = string
}

variable "manages_roles" {
  description = "Whether irsad makes IAM roles for service accounts."
  type        = bool
}

variable "roles_boundary_arn" {
  description = "Permissions boundary that each of these roles must have; empty where none is."
  type        = string
}

variable "role_arn" {
  description = "Role of the control-plane nodes."
  type        = string
}
