"""Comparisons of runs with one another and with published scores."""
