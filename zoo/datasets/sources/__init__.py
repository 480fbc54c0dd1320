"""Where the benchmarks' datasets come from, and where they are kept."""
