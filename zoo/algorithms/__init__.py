"""Algorithms that can be trained: the catalogue, the baselines of Stable-Baselines3, and packages of users."""
