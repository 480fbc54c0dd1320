"""ReadOptions, downloading, generating and checking OGBench datasets."""
