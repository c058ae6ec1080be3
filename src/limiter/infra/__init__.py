"""Clients for AWS and the infrastructure that the limiter runs on."""
