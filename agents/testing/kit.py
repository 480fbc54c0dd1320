"""The conformance kit: what training, saving and reporting need of an algorithm, tried one by one."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.common.method import Method
from agents.common.sb3.first_update import AgentError
from agents.common.validation import unknown_name_message
from agents.testing import checks
from agents.testing.subject import NotApplicable, Subject, Unknown, Violation

State = Literal["holds", "fails", "fails by design", "unknown", "does not apply", "skipped", "not tried"]
PAGE = "docs/register.md"


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    :param name: for ``--skip``.
    :param promise: what must hold.
    :param section: where the page of registration explains it.
    :param run: returns what was measured, or raises.
    """

    name: str
    promise: str
    section: str
    run: Callable[[Subject], str]

    @property
    def where(self) -> str:
        """Where to look."""
        return f"{PAGE}#{self.section}"


@dataclass(frozen=True)
class Outcome:
    """What became of a check.

    :param check: the check.
    :param state: whether it holds; what was neither shown to hold nor to fail is unknown.
    :param detail: what was measured, or why it does not hold, and what to do.
    """

    check: Check
    state: State
    detail: str


CHECKS = (
    Check("hooks", "every hook is there and returns what it should", "the-hooks", checks.check_hooks),
    Check("networks", "every network and parameter is declared in `networks`", "the-hooks", checks.without("networks")),
    Check("settings", "every setting is read", "settings", checks.without("settings")),
    Check("gradients", "each loss trains the networks that it should", "gradients", checks.without("gradients")),
    Check("masks", "losses leave out sequences across a trajectory's end", "rules", checks.without("masks")),
    Check("noise", "declared noise is used, and nothing else is random", "rules", checks.check_noise),
    Check("purity", "`targets` and `losses` change nothing", "rules", checks.without("pure")),
    Check("device", "an update never waits for the device", "rules", checks.without("device")),
    Check("bounds", "actions keep to their bounds", "the-hooks", checks.check_bounds),
    Check("replicas", "several seeds at once equal each alone", "rules", checks.check_replicas),
    Check("bf16", "low precision changes the gradient little", "checks", checks.check_low_precision),
    Check("plain", "an update of wide networks is that of plain PyTorch", "checks", checks.check_plain),
    Check("phases", "it trains offline and goes on online, with chunks of 1 and of 5", "checks", checks.check_phases),
    Check("saving", "a loaded model is the saved one", "rules", checks.check_saving),
    Check("resuming", "training resumes bit for bit", "rules", checks.check_resuming),
    Check("values", "known values are learnt", "what-must-be-learnt", checks.check_values),
    Check("actions", "better actions are preferred, or both modes cloned", "what-must-be-learnt", checks.check_actions),
    Check("compiled", "compiled updates equal plain ones", "checks", checks.check_compiled),
)
"""In the order in which they are tried: the quick ones first, and what later ones build on before them."""


def require_names(names: Collection[str]) -> None:
    """Refuse names of checks that there are not.

    :param names: the names.
    :raises ValueError: for the first unknown one; the closest are named.
    """
    for name in names:
        if name not in (known := [check.name for check in CHECKS]):
            raise ValueError(f"{unknown_name_message('check', name, known)}; there are: {', '.join(known)}")


def run_checks(
    method: type[Method], settings: Mapping[str, Any] | None = None, skip: Collection[str] = ()
) -> Iterator[Outcome]:
    """Try every check, one after the other.

    Without working hooks nothing else can be tried, so the first check that breaks a contract ends the rest.

    :param method: the algorithm.
    :param settings: over the small ones that the checks choose.
    :param skip: names of checks to leave out.
    :yields: an outcome for each check, as soon as it is there.
    :raises ValueError: if a name is not one of a check.
    """
    require_names([*skip, *method.fails_by_design])
    subject, broken = Subject(method, settings or {}), False
    for check in CHECKS:
        if check.name in skip:
            yield Outcome(check, "skipped", "")
        elif broken:
            yield Outcome(check, "not tried", "needs hooks that keep their contract")
        else:
            outcome = try_check(check, subject)
            broken = check.name == "hooks" and outcome.state == "fails"
            yield outcome


def try_check(check: Check, subject: Subject) -> Outcome:
    """Try one check; whatever it raises is its outcome.

    :param check: the check.
    :param subject: the algorithm, with what earlier checks have made of it.
    :return: the outcome.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what training warns of is a finding here
            return Outcome(check, "holds", check.run(subject))
    except NotApplicable as reason:
        return Outcome(check, "does not apply", str(reason))
    except Unknown as tried:
        return Outcome(check, "unknown", str(tried))
    except (Violation, AgentError) as error:
        if check.name in subject.method.fails_by_design:
            return Outcome(check, "fails by design", f"{subject.method.fails_by_design[check.name]}: {error}")
        return Outcome(check, "fails", f"{error}{_line_of(error, subject.method)}")
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        return Outcome(check, "fails", f"{told}{_line_of(error, subject.method)}")


def _line_of(error: BaseException, method: type[Method]) -> str:
    """Return the innermost line of the author's file that an error, or its cause, passed through; or nothing."""
    file, found = inspect.getsourcefile(method), ""
    cause: BaseException | None = error
    while cause is not None:
        lines = [frame for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == file]
        found = f" ({Path(lines[-1].filename).name}:{lines[-1].lineno})" if lines else found
        cause = cause.__cause__ or cause.__context__
    return found
