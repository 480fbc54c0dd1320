"""Imported once by the server that environment processes are forked from, ahead of the simulator's own module."""

import zoo.evaluation.pool  # noqa: F401  for every environment process
from zoo.envs.make import ignore_startup_warnings

# in the fork server and all processes forked from it; no environment runs in the server itself
ignore_startup_warnings()
