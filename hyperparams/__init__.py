"""Per-environment settings, one YAML file per algorithm, and in `profiles/` one per protocol that several share."""
