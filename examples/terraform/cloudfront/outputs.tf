output "issuer" {
  description = "Issuer of the cluster's tokens, as `issuer.url` in irsad.yaml."
  value       = "https://${var.domain_name}"
}

output "distribution_domain_name" {
  description = "Where the DNS record of domain_name leads."
  value       = aws_cloudfront_distribution.issuer.domain_name
}

output "distribution_id" {
  description = "For aws cloudfront create-invalidation."
  value       = aws_cloudfront_distribution.issuer.id
}
