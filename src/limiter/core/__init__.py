"""Decides, by pure rules without I/O, locks or waiting; may import only `models` and `exceptions`."""
