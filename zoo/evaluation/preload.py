"""Imported once by the server that environment processes are forked from, ahead of the simulator's own module."""

import zoo.evaluation.pool  # noqa: F401  for every environment process
from zoo.envs.make import ignore_startup_warnings

ignore_startup_warnings()  # for the server and the processes forked from it; nothing else runs there
