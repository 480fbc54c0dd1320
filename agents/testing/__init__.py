"""The conformance kit: tries everything that training, saving and reporting need an algorithm to do.

``zoo agents check my_agent:MyAgent`` prints it as a table; :mod:`agents.testing.plugin` brings it to pytest.
"""
