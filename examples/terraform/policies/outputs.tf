output "node" {
  description = "irsad iam-policy --part node"
  value       = jsonencode({ Version = "2012-10-17", Statement = local.node })
}

output "leader" {
  description = "irsad iam-policy --part leader"
  value       = jsonencode({ Version = "2012-10-17", Statement = local.leader })
}

output "documents_bucket" {
  description = "irsad iam-policy --part documents-bucket"
  value       = jsonencode({ Version = "2012-10-17", Statement = local.documents_bucket })
}

output "keyring_bucket" {
  description = "irsad iam-policy --part keyring-bucket"
  value       = jsonencode({ Version = "2012-10-17", Statement = local.keyring_bucket })
}

output "kms_key" {
  description = "irsad iam-policy --part kms-key"
  value       = jsonencode({ Version = "2012-10-17", Statement = local.kms_key })
}
