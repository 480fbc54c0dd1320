"""Gradient steps: compiling them, capturing them in CUDA graphs, and checkpoints."""
