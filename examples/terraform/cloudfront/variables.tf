variable "cluster" {
  description = "Name of the cluster, as `cluster` in irsad.yaml."
  type        = string
}

variable "documents_bucket_name" {
  description = "Bucket of the two public documents, made with documents_access = \"external\"."
  type        = string
}

variable "domain_name" {
  description = "Host of the issuer, in a domain of yours; a distribution's own name would be gone with it."
  type        = string
}

variable "certificate_arn" {
  description = "Certificate of domain_name in AWS Certificate Manager, in us-east-1."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:acm:us-east-1:", var.certificate_arn))
    error_message = "certificate_arn is a certificate in us-east-1."
  }
}
