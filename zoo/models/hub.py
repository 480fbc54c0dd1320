"""Download a policy from the Hugging Face hub by the exact name of its file; nothing else of a repository is read."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.algorithms.packages import import_optional
from zoo.terminal.errors import UsageError, one_line
from zoo.terminal.messages import log

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
POLICY = "policy.safetensors"
"""The file that is played; see `agents.common.model_file`. Loading it runs nothing."""


def hub_library() -> Any:
    """Return the module `huggingface_hub`.

    :raises UsageError: if it is not installed.
    """
    return import_optional("huggingface_hub", "huggingface_hub", "the hub", "huggingface_hub>=2,<3")


@contextlib.contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn what the hub's library raises into one sentence that says what to do."""
    errors = importlib.import_module("huggingface_hub.errors")  # an optional package
    try:
        yield
    # the hub's HTTP error derives from the base class of its HTTP library, which network errors share
    except (errors.HFValidationError, errors.HfHubHTTPError.__mro__[1], OSError) as error:
        # the library's own messages take several lines, with links and the HTTP request
        reason = one_line(error.__cause__ or error)
        if isinstance(error, errors.RemoteEntryNotFoundError):
            reason = f"it holds no agent of this library: expected the file {POLICY}"
        raise UsageError(
            f"the hub refuses {repo}, or cannot be reached ({reason}); check the name, the revision, the connection, "
            f"HF_ENDPOINT and HF_HUB_OFFLINE, and for what is private, and to upload, {LOG_IN}"
        ) from error


def download_policy(name: str) -> Path:
    """Return the policy of a repository, downloaded or from the hub's cache.

    :param name: ``my-name/my-agent``, with ``@`` and a branch, tag or commit where it is not the newest.
    :raises UsageError: if there is none, or the hub cannot be reached.
    """
    repo, _, revision = name.partition("@")
    api = hub_library().HfApi()
    with hub_errors(repo):
        path = Path(api.hf_hub_download(repo, POLICY, revision=revision or None))
    log.info("%s from the hub, commit %s", repo, path.parent.name)
    return path
