"""Catalogue of trainable algorithms, Stable-Baselines3's baselines, and imports of users' packages."""
