"""Suites: many runs said in one file, trained by workers on any machine, reported together."""
