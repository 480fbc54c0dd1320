"""Trained agents, loaded: from a run, a file, the hub or the package, and what they score."""
