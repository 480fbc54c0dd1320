"""Per-environment settings, one YAML file per algorithm."""
