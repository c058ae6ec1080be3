"""Knows whether asyncio or threads run the program; no other room does. May import core.validation and core.units."""
