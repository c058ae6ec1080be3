"""Decides: pure rules without I/O, locks or waiting. May import `models` and `exceptions`."""
