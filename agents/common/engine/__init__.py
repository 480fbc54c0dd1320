"""How updates run, are recorded for CUDA, and are saved."""
