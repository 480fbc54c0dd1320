"""Settings: each is declared once, as a typed attribute of its class.

``distill_weight: float = setting(default=100.0, above=0, doc="Weight of the distillation.")`` is enough: constructor,
validation, YAML files, help texts and documentation use this declaration. The declaration also contains the search
range of tuning, e.g. ``search=log_range(0.1, 100)``.
"""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    Unpack,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from agents.common.validation import (
    Bounds,
    boolean,
    describe_bounds,
    integer,
    number,
    one_of,
    suggestion,
)


@dataclass(frozen=True)
class Range:
    """A closed interval of numbers.

    :param low: lower bound.
    :param high: upper bound, above `low`.
    :param log: whether values are sampled uniformly in the logarithm.

    >>> print(Range(16, 512, log=True))
    16:512:log
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"the lower bound of a range must be below the upper one, got {self.low!r} and {self.high!r}"
            )
        if self.log and self.low <= 0:
            raise ValueError(
                f"a logarithmic range must start above 0, got {self.low!r}; use a linear range"
            )

    @property
    def ends(self) -> tuple[float, ...]:
        """Extreme values: if these are valid, so is everything between them."""
        return self.low, self.high

    def __str__(self) -> str:
        """Return the range in the syntax of ``zoo tune --search``."""
        text = f"{self.low}:{self.high}"
        if self.log:
            text += ":log"
        return text


@dataclass(frozen=True)
class Choice:
    """An unordered set of values.

    :param values: at least two, all different.

    >>> print(Choice((128, 256)))
    [128, 256]
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        # compared as strings, since 1, 1.0 and True are equal in Python
        if len(self.values) < 2 or len(set(map(repr, self.values))) < len(self.values):
            raise ValueError(
                f"a choice must have at least two different values, got {list(self.values)!r}"
            )

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values to validate: all of them."""
        return self.values

    def __str__(self) -> str:
        """Return the choice in the syntax of ``zoo tune --search``."""
        words = {"None": "null", "True": "true", "False": "false"}
        return f"[{', '.join(words.get(repr(value), str(value)) for value in self.values)}]"


Search = Range | Choice


def log_range(low: float, high: float) -> Range:
    """Return a search range with a logarithmic scale.

    :param low: lower bound, > 0.
    :param high: upper bound.
    :return: the range.

    >>> print(log_range(0.1, 10.0))
    0.1:10.0:log
    """
    return Range(low, high, log=True)


def linear_range(low: float, high: float) -> Range:
    """Return a search range with a linear scale.

    :param low: lower bound.
    :param high: upper bound.
    :return: the range.

    >>> print(linear_range(0.0, 1.0))
    0.0:1.0
    """
    return Range(low, high)


def choice(*values: Any) -> Choice:
    """Return a search space of a few values.

    :param values: at least two.
    :return: the search space.

    >>> print(choice(1, 4, None))
    [1, 4, null]
    """
    return Choice(values)


T = TypeVar("T")
Check = Callable[[str, Any], Any]
Role = Literal["", "protocol", "machine", "note"]

_TYPE_CHECKS: dict[Any, Callable[..., Any]] = {
    bool: boolean,
    int: integer,
    float: number,
}
"""Type of a setting -> function that checks a value; for numbers it also checks bounds."""


@dataclass(eq=False)
class Setting:
    """The declaration of one setting.

    :param default: default value.
    :param doc: description, in one line or two.
    :param reference: the setting's name in the paper or the authors' code, if different.
    :param fixed: why the setting is read-only after construction; empty for other settings.
    :param check: function of name and value that returns the value or raises; None checks type and bounds.
    :param in_sb3: whether SB3's models have the setting too; it is then also an attribute of the model.
    :param search: search range of tuning; None excludes the setting from tuning.
    :param role: see :func:`setting`.
    :param bounds: bounds of a number.
    """

    default: Any
    doc: str
    reference: str
    fixed: str
    check: Check | None
    in_sb3: bool
    search: Search | None
    role: str
    bounds: Bounds
    name: str = field(init=False, repr=False)
    type: Any = field(init=False, repr=False)
    """Resolved annotation."""
    annotation: str = field(init=False, repr=False)
    """Annotation as in the source."""

    def inherit(self, inherited: Setting) -> None:
        """Fill empty fields from the declaration in the base class; `in_sb3` is always inherited.

        :param inherited: the declaration of the same setting in a base class.
        """
        if self.check is None:  # a custom check may reject values of the inherited search range
            self.search = self.search or inherited.search
        self.in_sb3 = inherited.in_sb3
        for name in ("doc", "fixed", "reference", "check", "bounds", "role"):
            setattr(self, name, getattr(self, name) or getattr(inherited, name))

    def checked(self, value: Any) -> Any:
        """Validate a value.

        :param value: as the user passed it.
        :return: the value; a number is converted to the setting's type.
        :raises TypeError: if the setting is an int, a float or a bool and the value has another type.
        :raises ValueError: if the value is out of range, or is none of the values of a Literal.
        """
        parts = {self.type}
        if get_origin(self.type) in (Union, UnionType):
            parts = set(get_args(self.type))
        if value is None and NoneType in parts:
            return value
        if self.check is not None:
            return self.check(self.name, value)
        kind, *alternatives = parts - {NoneType}
        if alternatives:  # unions of several types are not checked
            kind = None
        if get_origin(kind) is Literal:
            return one_of(self.name, value, get_args(kind))
        if self.bounds and kind not in (int, float):
            raise TypeError(
                f"setting `{self.name}` has bounds, but its type `{self.annotation}` is neither int nor float; change "
                "the type or pass a `check`"
            )
        if kind in _TYPE_CHECKS:
            return _TYPE_CHECKS[kind](self.name, value, **self.bounds)
        return value  # values of other types are checked by the code that uses them

    @property
    def meaning(self) -> str:
        """Description, valid range, and name in the reference."""
        meaning = self.doc
        if self.bounds:
            meaning += f" Must be{describe_bounds(**self.bounds)}."
        if self.reference:
            meaning += f" Reference: `{self.reference}`."
        return meaning


def setting(
    *,
    default: T,
    doc: str = "",
    reference: str = "",
    fixed: str = "",
    check: Check | None = None,
    in_sb3: bool = False,
    search: Search | None = None,
    role: Role = "",
    **bounds: Unpack[Bounds],
) -> T:
    """Declare a setting, or redeclare an inherited one with another default; arguments left empty are inherited.

    :param default: default value.
    :param doc: description; the valid range is appended automatically.
    :param reference: the setting's name in the paper or the authors' code, if different.
    :param fixed: why the setting is read-only after construction, e.g. because it determines layer sizes.
    :param check: function of name and value that returns the value or raises; by default type and bounds are checked.
        None is not checked if the type allows it.
    :param in_sb3: whether SB3's models have the setting too; it is then also an attribute of the model.
    :param search: search range of tuning, e.g. ``log_range(0.1, 10)``.
    :param role: what the setting affects, for settings of all algorithms or runs. Empty: results; ``protocol``:
        results too, but a benchmark fixes the setting for all algorithms; ``machine``: device and numerics; ``note``:
        only files and logs.
    :param bounds: ``above``, ``at_least``, ``at_most``, ``below``; ``above`` and ``below`` are exclusive.
    :return: the declaration; for type checkers, the default.

    >>> class Sampler(Configurable):
    ...     steps: int = setting(default=10, at_least=1, doc="Steps of the sampler.")
    >>> Sampler(steps=5).steps
    5
    """
    return Setting(default, doc, reference, fixed, check, in_sb3, search, role, bounds)  # type: ignore[return-value]


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
class Configurable:
    """A class whose settings are declared as attributes; every assignment to a setting is validated.

    :param unnamed: positional arguments, which raise TypeError.
    :param values: settings by name; missing settings have their defaults.
    :raises TypeError: for a name that is not a setting; the message names the closest ones.

    >>> class Sampler(Configurable):
    ...     steps: int = setting(default=10, at_least=1)
    ...     clip: bool = setting(default=False)
    >>> Sampler(clip=True).settings()
    {'steps': 10, 'clip': True}
    """

    _declared: ClassVar[dict[str, Setting]] = {}
    changes = 0
    """Number of assignments; values derived from settings are stale if this number has increased."""
    is_locked = False
    """Whether fixed settings are read-only."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Collect the inherited settings and the class's own."""
        super().__init_subclass__(**options)
        inherited: dict[str, Setting] = {}
        # bases that come earlier in the method resolution order override later ones
        for base in reversed(cls.__mro__[1:]):
            inherited |= _settings_in(base)
        declared_here = _settings_in(cls)
        for name in inherited.keys() & vars(cls).keys() - declared_here:
            raise TypeError(
                f"assigning `{name}` in {cls.__name__} does not change the default of this setting; write "
                f"`{name}: {inherited[name].annotation} = setting(default=...)`"
            )
        for name, declaration in declared_here.items():
            if name not in cls.__annotations__:
                raise TypeError(
                    f"setting `{name}` of {cls.__name__} needs a type, e.g. `{name}: float = setting(...)`"
                )
            # assigning the setting would hide a method
            if hasattr(Configurable, name) or any(
                callable(getattr(base, name, None)) for base in cls.__bases__
            ):
                raise TypeError(
                    f"setting `{name}` of {cls.__name__} clashes with an existing attribute or method; rename it"
                )
            declaration.annotation = cls.__annotations__[name]
            if not isinstance(declaration.annotation, str):
                declaration.annotation = inspect.formatannotation(declaration.annotation)
            declaration.name = name
            if name in inherited:
                declaration.inherit(inherited[name])
        cls._declared = {**inherited, **declared_here}

    def __init__(self, *unnamed: Any, **values: Any) -> None:
        if unnamed:
            raise TypeError(
                f"{type(self).__module__}.{type(self).__name__}() takes settings by name only, got {unnamed[0]!r}; "
                "models are created from the algorithm's model class, e.g. `agents.QAM` or `agents.get(id).algorithm`"
            )
        self.refuse_unknown(values)
        for name, declaration in self.declared().items():
            if name in values:
                value = declaration.checked(values[name])
            else:
                # a copy, so that no two objects share a list
                value = copy.copy(declaration.default)
            vars(self)[name] = value
        self.check_together()

    def check_together(self) -> None:
        """Validate combinations of settings; raise ValueError if they are inconsistent."""

    @classmethod
    @cache
    def declared(cls) -> dict[str, Setting]:
        """Return all settings by name, inherited ones first."""
        # evaluated only now, since an annotation may name a class that is defined later in the module
        types = get_type_hints(cls)
        for name, declaration in cls._declared.items():
            declaration.type = types[name]
            declaration.default = declaration.checked(declaration.default)
        return cls._declared

    @classmethod
    def with_role(cls, role: Role) -> list[str]:
        """Return the names of the settings with a given role."""
        return [name for name, declaration in cls._declared.items() if declaration.role == role]

    @classmethod
    def refuse_unknown(cls, names: Iterable[str], also: Mapping[str, Any] | None = None) -> None:
        """Raise for names that are not settings.

        :param names: names to check.
        :param also: other names that are allowed.
        :raises TypeError: for the first unknown name; the message names the closest ones.
        """
        known_names = {**cls.declared(), **(also or {})}
        for name in names:
            if name not in known_names:
                raise TypeError(
                    f"{cls.__name__}() got an unexpected keyword argument '{name}'; {suggestion(name, known_names)}"
                )

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a setting after validating it alone and with the others; raise for a misspelt name of a setting."""
        if name in self._declared:
            declaration = self.declared()[name]
            value = declaration.checked(value)
            # a checkpoint assigns all settings again, with equal values
            if self.is_locked and declaration.fixed and value != getattr(self, name):
                raise ValueError(
                    f"`{name}` of a finished model cannot be changed from {getattr(self, name)!r} to {value!r}: "
                    f"{declaration.fixed}; create a new model"
                )
            changed = copy.copy(self)
            vars(changed)[name] = value
            changed.check_together()
            self.changes += 1
        elif not hasattr(self, name):
            for match in difflib.get_close_matches(name, self._declared, 1, cutoff=0.9):
                raise AttributeError(
                    f"{type(self).__name__} has no setting `{name}`; closest: {match}"
                )
        super().__setattr__(name, value)

    def settings(self) -> dict[str, Any]:
        """Return the values of all settings by name, as recorded with a run."""
        return {name: getattr(self, name) for name in self.declared()}

    @classmethod
    def documentation(cls) -> str:
        """Return one ``:param:`` line for every setting, with its default."""
        return "\n".join(
            f":param {name}: {declaration.meaning} Default: {declaration.default!r}."
            for name, declaration in cls.declared().items()
        )


def _settings_in(cls: type) -> dict[str, Setting]:
    """Return the settings declared in a class, without inherited ones."""
    return {name: value for name, value in vars(cls).items() if isinstance(value, Setting)}
