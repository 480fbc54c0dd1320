"""Comparisons of runs with one another and with published scores."""

import os

# figures are files, not windows; matplotlib reads the variable when it is imported
os.environ.setdefault("MPLBACKEND", "agg")
