"""Writes buckets with few calls, one at a time for each bucket; may import core, runtime, statistics and the store protocols."""
