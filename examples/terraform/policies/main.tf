# The policies of one cluster as values: no provider, nothing is made. `irsad iam-policy --part …` prints the same ones.

locals {
  documents    = [for path in [".well-known/openid-configuration", "openid/v1/jwks"] : "${local.bucket_arn}/${path}"]
  bucket_arn   = "arn:${var.partition}:s3:::${var.documents_bucket_name}"
  keyring_arn  = "arn:${var.partition}:s3:::${var.keyring_bucket_name}"
  has_keyring  = var.keyring_bucket_name != ""
  has_boundary = var.roles_boundary_arn != ""
  provider     = "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${trimprefix(var.issuer, "https://")}"
  roles        = "arn:${var.partition}:iam::${var.account_id}:role/irsad/${var.cluster}/*"
  context      = { "kms:EncryptionContext:app" = "irsad", "kms:EncryptionContext:cluster" = var.cluster }
  # A Sid takes letters and digits only.
  sid = "Irsad${replace(var.cluster, "-", "Dash")}"

  node = concat(
    [
      { Sid = "IrsadBucket", Effect = "Allow", Action = "s3:ListBucket", Resource = local.bucket_arn },
      { Sid = "IrsadDocuments", Effect = "Allow", Action = "s3:GetObject", Resource = local.documents },
    ],
    [for arn in var.irsad_makes_provider ? [local.provider] : [] :
      { Sid = "IrsadProvider", Effect = "Allow", Action = "iam:GetOpenIDConnectProvider", Resource = arn }
    ],
    [for arn in local.has_keyring ? [local.keyring_arn] : [] : {
      Sid      = "IrsadKeyringBucket"
      Effect   = "Allow"
      Action   = ["s3:ListBucket", "s3:GetBucketPolicy", "s3:GetBucketPublicAccessBlock", "s3:GetBucketVersioning"]
      Resource = arn
    }],
    [for arn in local.has_keyring ? [local.keyring_arn] : [] :
      { Sid = "IrsadKeyring", Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject"], Resource = "${arn}/*" }
    ],
    [for has in local.has_keyring ? [true] : [] : {
      Sid       = "IrsadSealing"
      Effect    = "Allow"
      Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource  = var.kms_key_arn
      Condition = { StringEquals = local.context }
    }],
  )

  leader = concat(
    [{ Sid = "IrsadDocuments", Effect = "Allow", Action = "s3:PutObject", Resource = local.documents }],
    [for arn in var.irsad_makes_provider ? [local.provider] : [] : {
      Sid    = "IrsadProvider"
      Effect = "Allow"
      Action = [
        "iam:CreateOpenIDConnectProvider",
        "iam:TagOpenIDConnectProvider",
        "iam:AddClientIDToOpenIDConnectProvider",
      ]
      Resource = arn
    }],
    # Whose a role is shows only when it is found.
    [for has in var.manages_roles ? [true] : [] : {
      Sid      = "IrsadRolesSeen"
      Effect   = "Allow"
      Action   = ["iam:GetPolicy", "iam:GetRole", "iam:ListRoles"]
      Resource = "*"
    }],
    [for arn in var.manages_roles ? [local.roles] : [] : {
      Sid    = "IrsadRoles"
      Effect = "Allow"
      Action = [
        "iam:DeleteRole",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListRolePolicies",
        "iam:TagRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:UpdateRole",
      ]
      Resource = arn
    }],
    [for arn in var.manages_roles && !local.has_boundary ? [local.roles] : [] : {
      Sid      = "IrsadRolePermissions"
      Effect   = "Allow"
      Action   = ["iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePolicy"]
      Resource = arn
    }],
    [for arn in var.manages_roles && local.has_boundary ? [local.roles] : [] : {
      Sid       = "IrsadRolePermissions"
      Effect    = "Allow"
      Action    = ["iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
      Resource  = arn
      Condition = { StringEquals = { "iam:PermissionsBoundary" = var.roles_boundary_arn } }
    }],
  )

  documents_bucket = [
    { Sid = local.sid, Effect = "Allow", Principal = "*", Action = "s3:GetObject", Resource = local.documents },
  ]

  keyring_bucket = [
    # A private key is written once and never over another one.
    {
      Sid       = "${local.sid}KeysOnce"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.keyring_arn}/keys/*"
      Condition = { Null = { "s3:if-none-match" = "true" } }
    },
    # Nothing is written without being compared with what was read.
    {
      Sid       = "${local.sid}Conditional"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.keyring_arn}/*"
      Condition = { Null = { "s3:if-match" = "true", "s3:if-none-match" = "true" } }
    },
    {
      Sid       = "${local.sid}Kept"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
      Resource  = "${local.keyring_arn}/*"
    },
    {
      Sid       = "${local.sid}TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.keyring_arn, "${local.keyring_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    },
    # Worker nodes and everybody else, whatever their own policies allow.
    {
      Sid       = "${local.sid}ControlPlaneOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*", "s3:RestoreObject"]
      Resource  = "${local.keyring_arn}/*"
      Condition = { ArnNotEquals = { "aws:PrincipalArn" = var.role_arn } }
    },
  ]

  kms_key = [
    # The account looks after the key and cannot use it.
    {
      Sid       = "IrsadAdministration"
      Effect    = "Allow"
      Principal = { AWS = "arn:${var.partition}:iam::${var.account_id}:root" }
      Action = [
        "kms:CancelKeyDeletion",
        "kms:Create*",
        "kms:Delete*",
        "kms:Describe*",
        "kms:Disable*",
        "kms:Enable*",
        "kms:Get*",
        "kms:List*",
        "kms:Put*",
        "kms:Revoke*",
        "kms:ScheduleKeyDeletion",
        "kms:TagResource",
        "kms:UntagResource",
        "kms:Update*",
      ]
      Resource = "*"
    },
    {
      Sid       = "IrsadSealing"
      Effect    = "Allow"
      Principal = { AWS = var.role_arn }
      Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource  = "*"
      Condition = { StringEquals = local.context }
    },
    {
      Sid       = "IrsadControlPlaneOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant"]
      Resource  = "*"
      Condition = { ArnNotEquals = { "aws:PrincipalArn" = var.role_arn } }
    },
  ]
}
