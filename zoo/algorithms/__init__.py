"""Which algorithms can be trained: the catalogue, those of Stable-Baselines3, their overview, and packages of users."""
