"""Seeded environments."""
