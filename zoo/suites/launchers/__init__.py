"""Launchers: they start workers somewhere, and wait for their end."""
