"""Seeded evaluation: episodes, environment processes, evaluation beside training."""
