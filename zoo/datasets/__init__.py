"""Reading, downloading, generating and checking OGBench datasets."""
