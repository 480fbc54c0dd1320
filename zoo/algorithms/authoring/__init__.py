"""For authors of algorithms: a package to start from."""
