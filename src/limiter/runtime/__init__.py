"""Knows, as the only room, whether asyncio or threads run the program; may import core.validation and core.units."""
