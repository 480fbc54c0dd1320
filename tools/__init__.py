"""Maintainers' scripts: lock files, tables, trained agents, and checks of the site and releases."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository's folder."""
