"""Settings of a model: kept in its method alone, read and changed as attributes of the model."""

from __future__ import annotations

from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar

from agents.common.method import Method
from agents.common.sb3.stored_model import StoredModel


class SharedSetting:
    """A setting as an attribute of a model: read from its method, and changed there.

    :param name: of the setting.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, model: MethodModel | None, owner: type) -> Any:
        """Return its value."""
        return self if model is None else getattr(model.method, self.name)

    def __set__(self, model: MethodModel, value: Any) -> None:
        """Change it for acting and training alike; what is refused stays as it is."""
        setattr(model.method, self.name, value)
        model._setting_changed(self.name)


class MethodModel(StoredModel):
    """The part of a model that lends its method's settings their place among the model's attributes."""

    method_class: ClassVar[type[Method]]
    method: Method

    def __getattr__(self, name: str) -> Any:
        """Return what the method has and the model has not, such as its hooks."""
        if name.startswith("_") or "method" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.method, name)

    def _setting_changed(self, name: str) -> None:
        """Update what was derived from a setting that has changed.

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
