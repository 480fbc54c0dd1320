"""Read datasets in formats other than OGBench's into OGBench's compact layout."""
