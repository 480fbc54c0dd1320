"""Registers an environment with a namespace; for ``--gym-packages``."""

import gymnasium

import tests.zoo.envs.toys  # noqa: F401

NAMESPACED = "my-ns/Toy-v0"

gymnasium.register(NAMESPACED, entry_point="tests.zoo.envs.toys:ToyEnv")
