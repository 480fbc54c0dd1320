"""Agents, loaded from a run, a file, the hub or the package, and uploaded."""
