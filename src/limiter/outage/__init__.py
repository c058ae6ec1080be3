"""Answers without the table. May import commit, core, statistics and the store protocols."""
