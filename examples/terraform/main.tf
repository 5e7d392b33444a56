# What irsad needs of AWS, made once: the issuer's bucket, the keyring's bucket, the KMS key that seals, and the control-plane
# nodes' role with no more than it needs. README.md beside this file has the commands and the configuration that fits.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account     = data.aws_caller_identity.current.account_id
  partition   = data.aws_partition.current.partition
  opens       = var.documents_access == "bucketPolicy"
  has_keyring = var.keyring_bucket_name != ""
  makes_role  = var.control_plane_role_name == ""
  bucket_url  = "https://${var.documents_bucket_name}.s3.${data.aws_region.current.id}.${data.aws_partition.current.dns_suffix}"
  issuer      = local.opens ? local.bucket_url : var.issuer_url
  role_name   = local.makes_role ? one(aws_iam_role.control_plane[*].name) : var.control_plane_role_name
  role_arn = (
    local.makes_role
    ? one(aws_iam_role.control_plane[*].arn)
    : "arn:${local.partition}:iam::${local.account}:role/${var.control_plane_role_name}"
  )
  tags = { "kubernetes-cluster" = var.cluster }
}

module "policies" {
  source = "./policies"

  partition             = local.partition
  account_id            = local.account
  cluster               = var.cluster
  documents_bucket_name = var.documents_bucket_name
  issuer                = local.issuer
  irsad_makes_provider  = var.oidc_provider == "irsad"
  keyring_bucket_name   = var.keyring_bucket_name
  kms_key_arn           = local.has_keyring ? one(aws_kms_key.sealing[*].arn) : ""
  manages_roles         = var.roles == "manage"
  roles_boundary_arn    = var.roles_boundary_arn
  role_arn              = local.role_arn
}

resource "aws_s3_bucket" "documents" {
  bucket = var.documents_bucket_name
  tags   = local.tags

  lifecycle {
    # The issuer of every token names this bucket: another account could take the name of one that is gone, and sign.
    prevent_destroy = true

    precondition {
      condition     = local.opens || var.issuer_url != ""
      error_message = "documents_access = \"external\" needs issuer_url, the address under which the documents are served."
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "documents" {
  bucket = aws_s3_bucket.documents.id

  rule {
    apply_server_side_encryption_by_default {
      # Not aws:kms: a stranger could not read such an object.
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "documents" {
  bucket = aws_s3_bucket.documents.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "documents" {
  bucket                  = aws_s3_bucket.documents.id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = !local.opens
  restrict_public_buckets = !local.opens
}

resource "aws_s3_bucket_policy" "documents" {
  count = local.opens ? 1 : 0

  bucket = aws_s3_bucket.documents.id
  policy = module.policies.documents_bucket

  # S3 refuses a public policy before.
  depends_on = [aws_s3_bucket_public_access_block.documents]
}

resource "aws_s3_bucket" "keyring" {
  count = local.has_keyring ? 1 : 0

  bucket = var.keyring_bucket_name
  tags   = local.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "keyring" {
  count = local.has_keyring ? 1 : 0

  bucket = aws_s3_bucket.keyring[0].id

  rule {
    apply_server_side_encryption_by_default {
      # irsad seals private keys by itself, before they leave a node; nothing here needs a second key.
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "keyring" {
  count = local.has_keyring ? 1 : 0

  bucket = aws_s3_bucket.keyring[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "keyring" {
  count = local.has_keyring ? 1 : 0

  bucket                  = aws_s3_bucket.keyring[0].id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "keyring" {
  count = local.has_keyring ? 1 : 0

  bucket = aws_s3_bucket.keyring[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_policy" "keyring" {
  count = local.has_keyring ? 1 : 0

  bucket = aws_s3_bucket.keyring[0].id
  policy = module.policies.keyring_bucket
}

resource "aws_kms_key" "sealing" {
  count = local.has_keyring ? 1 : 0

  description         = "seals the service-account keys of Kubernetes cluster ${var.cluster}"
  enable_key_rotation = true
  policy              = module.policies.kms_key
  tags                = local.tags

  lifecycle {
    # Without it nobody opens the private keys in the bucket.
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "sealing" {
  count = local.has_keyring ? 1 : 0

  name          = "alias/irsad-${var.cluster}"
  target_key_id = aws_kms_key.sealing[0].key_id
}

resource "aws_iam_role" "control_plane" {
  count = local.makes_role ? 1 : 0

  name_prefix = "${substr(var.cluster, 0, 23)}-control-plane-"
  description = "control-plane nodes of Kubernetes cluster ${var.cluster}"
  tags        = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.${data.aws_partition.current.dns_suffix}" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_instance_profile" "control_plane" {
  count = local.makes_role ? 1 : 0

  name_prefix = "${substr(var.cluster, 0, 23)}-control-plane-"
  role        = aws_iam_role.control_plane[0].name
  tags        = local.tags
}

resource "aws_iam_policy" "node" {
  name_prefix = "irsad-node-${var.cluster}-"
  description = "What irsad asks AWS for on every control-plane node"
  policy      = module.policies.node
  tags        = local.tags
}

resource "aws_iam_policy" "leader" {
  name_prefix = "irsad-leader-${var.cluster}-"
  description = "What irsad asks AWS for on the control-plane node that leads, which any of them can be"
  policy      = module.policies.leader
  tags        = local.tags
}

resource "aws_iam_role_policy_attachment" "node" {
  role       = local.role_name
  policy_arn = aws_iam_policy.node.arn
}

resource "aws_iam_role_policy_attachment" "leader" {
  role       = local.role_name
  policy_arn = aws_iam_policy.leader.arn
}

resource "aws_iam_openid_connect_provider" "issuer" {
  count = var.oidc_provider == "terraform" ? 1 : 0

  url            = local.issuer
  client_id_list = ["sts.amazonaws.com"]

  depends_on = [aws_s3_bucket.documents]
}
