"""Writes buckets with as few calls as possible, one at a time for each bucket.

May import core, runtime, statistics and repository_protocol.
"""
