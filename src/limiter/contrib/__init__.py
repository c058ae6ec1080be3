"""Adapts the limiter to other libraries, each imported only by its adapter; may import every room but infra, cli and audit."""
