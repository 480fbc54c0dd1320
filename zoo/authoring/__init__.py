"""For authors of algorithms: a package to start from, and the conformance kit as a program."""
