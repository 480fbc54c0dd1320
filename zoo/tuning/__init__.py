"""Tuning of an algorithm's settings: studies, trials and results."""
