"""Settings of a model: kept in its method alone, read and changed as attributes of the model."""

from __future__ import annotations

from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.common.method import Method


class MethodModel(OffPolicyAlgorithm):
    """The part of a model that lends its method's settings their place among the model's attributes."""

    method_class: ClassVar[type[Method]]
    method: Method

    def __getattr__(self, name: str) -> Any:
        """Return a setting, or whatever else the method has and the model has not."""
        method = vars(self).get("method")
        if method is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(method, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Change a setting where it is kept, or an attribute of the model."""
        method = vars(self).get("method")
        if method is None or name not in method.declared():
            super().__setattr__(name, value)
            return
        setattr(method, name, value)
        self._setting_changed(name)

    def _setting_changed(self, name: str) -> None:
        """Let a setting that something was derived from take effect.

        :param name: of the setting.
        """

    def _absorb_settings(self) -> None:
        """Move settings that SB3 has put among the attributes of a loaded model to the method."""
        for name in self.method.declared():
            if name in vars(self):
                setattr(self.method, name, vars(self).pop(name))

    def save(self, path: str | Path | BufferedIOBase, exclude: Any = None, include: Any = None) -> None:
        """Save the model; see Stable-Baselines3. Settings are saved as attributes of their own."""
        vars(self).update(self.method.settings())
        try:
            super().save(path, exclude, include)
        finally:
            for name in self.method.declared():
                del vars(self)[name]
