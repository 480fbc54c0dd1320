"""Seeded evaluation: episodes in child processes, scores, videos, and held-out losses."""
