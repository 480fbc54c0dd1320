"""Numbers with intervals, from scores alone."""
