"""An algorithm's hooks, tried before training, and what is watched meanwhile."""
