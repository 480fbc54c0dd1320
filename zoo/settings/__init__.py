"""Settings of a run: YAML of plain values, layers, and the checked whole."""
