"""Datasets, and the replay buffer, which samples chunks from trajectories."""
