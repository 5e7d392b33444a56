output "issuer" {
  description = "Issuer of the cluster's tokens."
  value       = local.issuer
}

output "control_plane_role_arn" {
  description = "Role of the control-plane nodes."
  value       = local.role_arn
}

output "instance_profile" {
  description = "Instance profile for the control-plane nodes; null where they have a role already."
  value       = one(aws_iam_instance_profile.control_plane[*].name)
}

output "sealing_key_arn" {
  description = "KMS key, as `keyring.kmsKey` in irsad.yaml; null without a keyring's bucket."
  value       = one(aws_kms_key.sealing[*].arn)
}
