"""Run folders: their files, written and read."""
