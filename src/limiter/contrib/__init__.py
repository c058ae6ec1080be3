"""Adapters to other libraries, each of which is imported by its own module only. May import everything but infra and cli."""
