"""Measures this library beside others: `make bench`, or `python -m benchmarks --help`.

Nothing here is asserted in a test. Every measurement runs in a fresh process of its own (`worker.py`); peers take turns, so that
whatever else the machine does meets all of them alike; ratios are formed within one run.
"""
