"""Fixtures of the tests of playing."""

from __future__ import annotations

from tests.zoo.models.conftest import logs, model, policy_file

__all__ = ["logs", "model", "policy_file"]
