"""Settings for each environment: one YAML file per algorithm, and in `profiles/` one per shared protocol."""
