"""Tuning of an algorithm's settings: studies, their trials, and what they found."""

TUNING_SEED = 1_000_000
"""First seed of training and seed of evaluations in tuning: apart from those of a report, which begin at 0."""
