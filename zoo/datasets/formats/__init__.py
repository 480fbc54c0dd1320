"""Read datasets of other origins than OGBench's into its compact layout."""
