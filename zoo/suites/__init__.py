"""Suites: many runs described in one file, trained on any machine, reported together."""
