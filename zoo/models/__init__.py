"""Load an agent from a run, a file, the hub or `zoo/trained`; upload an agent to the hub."""
