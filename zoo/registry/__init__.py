"""Scores of everyone: what is submitted, how it is checked, and the page that shows it (docs/registry.md)."""
