# CloudFront before the closed bucket of the two public documents: the distribution alone may read them, and nothing is cached, so that
# what irsad publishes is what verifiers get.

data "aws_s3_bucket" "documents" {
  bucket = var.documents_bucket_name
}

resource "aws_cloudfront_origin_access_control" "documents" {
  name                              = "irsad-${var.cluster}"
  description                       = "reads the issuer documents of Kubernetes cluster ${var.cluster}"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_distribution" "issuer" {
  enabled         = true
  comment         = "issuer of Kubernetes cluster ${var.cluster}"
  http_version    = "http2"
  is_ipv6_enabled = true
  # The verifier is AWS STS, in the cluster's own regions.
  price_class = "PriceClass_100"
  aliases     = [var.domain_name]
  tags        = { "kubernetes-cluster" = var.cluster }

  origin {
    origin_id                = "documents"
    domain_name              = data.aws_s3_bucket.documents.bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.documents.id
  }

  default_cache_behavior {
    target_origin_id = "documents"
    # Verifiers follow no redirect.
    viewer_protocol_policy = "https-only"
    allowed_methods        = ["GET", "HEAD"]
    cached_methods         = ["GET", "HEAD"]
    compress               = true
    # Managed policy CachingDisabled. A policy of yours may keep documents for at most five minutes, as their Cache-Control says.
    cache_policy_id = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
  }

  # Otherwise a document that was asked for a moment too early stays missing for ten seconds.
  custom_error_response {
    error_code            = 403
    error_caching_min_ttl = 0
  }

  custom_error_response {
    error_code            = 404
    error_caching_min_ttl = 0
  }

  viewer_certificate {
    acm_certificate_arn      = var.certificate_arn
    minimum_protocol_version = "TLSv1.2_2021"
    ssl_support_method       = "sni-only"
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  lifecycle {
    # Every token names this address.
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_policy" "documents" {
  bucket = data.aws_s3_bucket.documents.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "CloudFront"
        Effect    = "Allow"
        Principal = { Service = "cloudfront.amazonaws.com" }
        Action    = "s3:GetObject"
        Resource = [
          "${data.aws_s3_bucket.documents.arn}/.well-known/openid-configuration",
          "${data.aws_s3_bucket.documents.arn}/openid/v1/jwks",
        ]
        # Not every distribution of everybody.
        Condition = { StringEquals = { "aws:SourceArn" = aws_cloudfront_distribution.issuer.arn } }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [data.aws_s3_bucket.documents.arn, "${data.aws_s3_bucket.documents.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}
