"""Deploys and inspects CloudFormation stacks. May import aws, core and runtime."""
