"""Deploys, inspects and deletes the CloudFormation stacks of the limiter's tables; may import aws, core and runtime."""
