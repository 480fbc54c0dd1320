"""Launchers: they run tasks somewhere, and wait for their end."""
