"""The conformance kit: checks what training, saving and reporting require of an algorithm.

``zoo agents check my_agent:MyAgent`` prints the results as a table; :mod:`agents.testing.plugin` runs the checks in
pytest.
"""
