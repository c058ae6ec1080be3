"""The kinds of limits, one module for each."""
