"""Figures of a comparison as files."""
