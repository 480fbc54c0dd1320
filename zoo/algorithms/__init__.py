"""Algorithms that can be trained: the catalogue, Stable-Baselines3's baselines, and users' packages."""
