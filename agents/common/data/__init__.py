"""Datasets and replay: the only place that knows trajectories and chunks."""
