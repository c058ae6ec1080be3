"""Adapters to other libraries. Only an adapter's own module imports its library. May import everything but infra and cli."""
