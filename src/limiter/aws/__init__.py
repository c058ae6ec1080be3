"""Knows AWS, its clients and its items; no other room does. May import core and runtime."""
