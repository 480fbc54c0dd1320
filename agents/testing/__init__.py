"""The conformance kit: checks that an algorithm can be trained, saved and evaluated.

``zoo agents check my_agent:MyAgent`` prints the results as a table; :mod:`agents.testing.plugin` runs the checks in
pytest.
"""
