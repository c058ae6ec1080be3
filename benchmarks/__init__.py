"""Measures this library beside others: `make bench`, or `python -m benchmarks --help`.

Nothing here is asserted in a test. Every measurement runs in a fresh process of its own (`worker.py`); peers take turns, so that
other work on the machine affects all of them alike; ratios are formed within one run.
"""
