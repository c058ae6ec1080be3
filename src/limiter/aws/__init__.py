"""Knows, as the only room, AWS, its clients and the items of a table; may import core and runtime."""
