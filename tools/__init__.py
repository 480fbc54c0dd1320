"""What makes lock files and tables of the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository's folder."""
