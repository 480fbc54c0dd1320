"""Models and policies with the Stable-Baselines3 interface."""
