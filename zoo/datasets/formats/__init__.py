"""Read datasets in other formats than OGBench's into OGBench's compact layout."""
