# A table for dynamodb-limiter, and the policies to use it.
# Written by scripts/generate_terraform.py from the CloudFormation template.

variable "name" {
  description = "The table's name, which programs pass to Repository."
  type        = string
  default     = "my-app"
}

variable "point_in_time_recovery" {
  description = "Keep backups of the last 35 days."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Refuse to delete the table."
  type        = bool
  default     = false
}

resource "aws_dynamodb_table" "limiter" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  attribute {
    name = "lpk"
    type = "S"
  }

  attribute {
    name = "lsk"
    type = "S"
  }

  global_secondary_index {
    name            = "listing"
    projection_type = "KEYS_ONLY"
    hash_key        = "lpk"
    range_key       = "lsk"
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }
}

data "aws_iam_policy_document" "acquire" {
  statement {
    sid = "Items"
    actions = [
      "dynamodb:GetItem",
      "dynamodb:BatchGetItem",
      "dynamodb:UpdateItem",
    ]
    resources = [
      aws_dynamodb_table.limiter.arn,
    ]
  }
}

resource "aws_iam_policy" "acquire" {
  name   = "${var.name}-acquire"
  policy = data.aws_iam_policy_document.acquire.json
}

data "aws_iam_policy_document" "read" {
  statement {
    sid = "Items"
    actions = [
      "dynamodb:GetItem",
      "dynamodb:BatchGetItem",
      "dynamodb:Query",
    ]
    resources = [
      aws_dynamodb_table.limiter.arn,
      "${aws_dynamodb_table.limiter.arn}/index/listing",
    ]
  }

  statement {
    sid = "Table"
    actions = [
      "dynamodb:DescribeTable",
      "dynamodb:DescribeTimeToLive",
    ]
    resources = [
      aws_dynamodb_table.limiter.arn,
    ]
  }
}

resource "aws_iam_policy" "read" {
  name   = "${var.name}-read"
  policy = data.aws_iam_policy_document.read.json
}

data "aws_iam_policy_document" "admin" {
  statement {
    sid = "Items"
    actions = [
      "dynamodb:GetItem",
      "dynamodb:BatchGetItem",
      "dynamodb:Query",
      "dynamodb:PutItem",
      "dynamodb:UpdateItem",
      "dynamodb:DeleteItem",
      "dynamodb:BatchWriteItem",
      "dynamodb:Scan",
    ]
    resources = [
      aws_dynamodb_table.limiter.arn,
      "${aws_dynamodb_table.limiter.arn}/index/listing",
    ]
  }

  statement {
    sid = "Table"
    actions = [
      "dynamodb:DescribeTable",
      "dynamodb:DescribeTimeToLive",
    ]
    resources = [
      aws_dynamodb_table.limiter.arn,
    ]
  }
}

resource "aws_iam_policy" "admin" {
  name   = "${var.name}-admin"
  policy = data.aws_iam_policy_document.admin.json
}

output "table_arn" {
  value = aws_dynamodb_table.limiter.arn
}

output "acquire_policy_arn" {
  value = aws_iam_policy.acquire.arn
}

output "read_policy_arn" {
  value = aws_iam_policy.read.arn
}

output "admin_policy_arn" {
  value = aws_iam_policy.admin.arn
}
