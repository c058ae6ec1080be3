"""Decides without the table; may import commit, core, statistics and the store protocols."""
