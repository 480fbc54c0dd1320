"""Evaluation, statistics and reports."""
