"""Seeded evaluation: episodes, environment processes, evaluation during training."""
