"""Trained agents at work: which one plays, what it scores, and pictures of it."""
