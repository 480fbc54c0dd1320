"""Download an agent from the hub: one file, asked for by its exact name. Nothing else in a repository is looked at."""

from __future__ import annotations

import re
from pathlib import Path

from agents.common.bounded import size_text
from zoo.errors import UsageError
from zoo.messages import log
from zoo.models.hub_client import hub_errors, hub_library

POLICY = "policy.safetensors"
"""The file that is played; see `agents.common.sb3.acting`. Loading it runs nothing."""
MOST_BYTES = 1 << 30
_REPOSITORY = re.compile(r"(?P<repo>[^@\s]+/[^@\s]+)(@(?P<revision>[^@\s]+))?")


def download_policy(name: str) -> Path:
    """Return the policy of a repository, downloaded or from the hub's cache.

    :param name: ``my-name/my-agent``, with ``@`` and a branch, tag or commit where it is not the newest.
    :raises UsageError: if there is none, or the hub cannot be reached.
    """
    found = _REPOSITORY.fullmatch(name)
    if found is None:
        raise UsageError(f"expected `--from-hub` to be NAME/REPOSITORY or NAME/REPOSITORY@REVISION, got {name!r}")
    repo, revision = found["repo"], found["revision"]
    api = hub_library().HfApi()
    with hub_errors(repo, revision):
        file = api.hf_hub_download(repo, POLICY, revision=revision, dry_run=True)
        if (file.file_size or 0) > MOST_BYTES:
            size, most = size_text(file.file_size), size_text(MOST_BYTES)
            raise UsageError(f"{POLICY} of {repo} has {size}, expected at most {most}; it is no policy of this library")
        path = Path(api.hf_hub_download(repo, POLICY, revision=revision))  # by name, so that the cache knows it offline
    log.info("%s from the hub, commit %s", repo, path.parent.name)
    return path
