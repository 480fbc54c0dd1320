"""Checkpoints, and gradient steps, which can be compiled and captured in CUDA graphs."""
