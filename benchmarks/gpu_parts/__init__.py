"""What `benchmarks/gpu.py` checks and measures, part by part.

A part is a function that returns what it found, and raises :class:`agents.testing.subject.Violation` where something is
not as promised. Each is run in a process of its own, which the next part shares while all goes well.
"""
