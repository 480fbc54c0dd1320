"""Settings of a run: YAML files, precedence of their layers, and the checked result."""
