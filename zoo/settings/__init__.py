"""Settings of a run: YAML files, their layers, and the checked result."""
