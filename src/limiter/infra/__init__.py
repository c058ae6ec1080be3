"""Deploys, inspects and deletes the CloudFormation stacks that hold the limiter's tables."""
