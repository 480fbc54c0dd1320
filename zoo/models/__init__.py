"""Load an agent from a run, a file, the hub or this package; upload it to the hub."""
