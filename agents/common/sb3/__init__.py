"""Models and policies as Stable-Baselines3 knows them."""
