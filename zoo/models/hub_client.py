"""The hub's library, which is optional, and its errors in words."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from zoo.errors import UsageError
from zoo.packages import import_optional

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def hub_library() -> Any:
    """Return the module `huggingface_hub`.

    :raises UsageError: if it is not installed.
    """
    return import_optional("huggingface_hub", "huggingface_hub", "the hub", "huggingface_hub>=2,<3")


@contextlib.contextmanager
def hub_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn what the hub's library raises into one sentence that says what to do."""
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except (errors.HFValidationError, errors.EntryNotFoundError, OSError) as error:
        raise UsageError(_in_words(errors, error, repo, revision)) from error
    except Exception as error:
        if not isinstance(error, errors.HfHubHTTPError.__mro__[1]):  # of its HTTP library
            raise
        raise UsageError(_unreachable(repo, error)) from error


def _in_words(errors: Any, error: Exception, repo: str, revision: str | None) -> str:
    """Return what an error of the hub means."""
    if isinstance(error, errors.HFValidationError):
        return f"expected a repository of the hub, e.g. my-name/my-agent, got {repo!r}: {error}"
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} asks for its owner's permission; request it on its page, then {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no repository {repo}, or it is private; check the name, and for a private one {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {revision!r}; give a branch, tag or commit, or leave out `@{revision}`"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return _unreachable(repo, error.__cause__ or error)
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repo} holds no agent of this library: expected the file policy.safetensors, which push-to-hub writes"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub refuses {repo} to you ({status}); {LOG_IN} with a token that may write there"
    return _unreachable(repo, error)


def _unreachable(repo: str, error: BaseException) -> str:
    """Return that the hub did not answer as it should."""
    endpoint = importlib.import_module("huggingface_hub.constants").ENDPOINT
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"could not get an answer about {repo} from {endpoint} ({reason}); check the connection, HF_ENDPOINT and "
        "HF_HUB_OFFLINE"
    )
