"""Gradient steps, compiled and captured in CUDA graphs, and checkpoints."""
