"""What maintainers run: lock files, the table of licences, trained agents, the size of the code."""
