"""Flow-policy algorithms with the Stable-Baselines3 interface."""
