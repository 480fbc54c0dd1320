"""What maintainers run: lock files, the table of licences, the audit of dependencies."""
