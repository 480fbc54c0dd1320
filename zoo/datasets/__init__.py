"""Downloading, generating, reading, checking and converting datasets."""
