"""Load an agent from a run, a file, the hub or the package, and upload it."""
