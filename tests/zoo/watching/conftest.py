"""The run that `tests/zoo/models` makes; fixtures of a sibling folder are found only if imported."""

from tests.zoo.models.conftest import logs, model

__all__ = ["logs", "model"]
