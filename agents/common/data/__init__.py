"""Datasets and the replay buffer, which turn trajectories into chunks."""
