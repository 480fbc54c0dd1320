"""Tuning of an algorithm's settings: studies, their trials, and what they found."""
