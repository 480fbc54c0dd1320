"""Fixtures of the tests of playing."""

from tests.zoo.models.conftest import logs, model, policy_file

__all__ = ["logs", "model", "policy_file"]
