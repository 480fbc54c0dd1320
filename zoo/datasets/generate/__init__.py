"""Make datasets by playing episodes."""
