"""Upload an agent to the hub."""

from __future__ import annotations

from pathlib import Path

from agents.common.sb3.policy import FlowPolicy
from zoo.errors import UsageError
from zoo.hub.bundle import CARD, COMMAND, CURVE, MODEL, origin_of, write_files
from zoo.hub.card import model_card
from zoo.models.agent import Agent
from zoo.models.hub_client import LOG_IN, hub_errors, hub_library
from zoo.models.score import Score


def write_folder(
    agent: Agent,
    folder: Path,
    repo: str,
    *,
    licence: str,
    chosen: str | None = None,
    with_model: bool = False,
    n_envs: int | None = None,
) -> Score:
    """Write all that is uploaded of an agent into an empty folder, and return the score of its policy.

    :param repo: where it will be.
    :param licence: as the hub calls it, e.g. ``mit``.
    :param chosen: which model of its run it is, where that is not the final one.
    :param with_model: also the whole model, to train on.
    :param n_envs: environments to play in; None takes as many as in training.
    :raises UsageError: if the agent is not one of this library, or there is no whole model.
    """
    if not isinstance(agent.policy, FlowPolicy):
        raise UsageError(f"{agent.algo} is one of SB3's algorithms; upload it with the package `huggingface_sb3`")
    origin = origin_of(agent)
    score = write_files(agent, origin, folder, licence=licence, with_model=with_model, n_envs=n_envs)
    card = model_card(agent, origin, score, repo, licence=licence, chosen=chosen, with_model=with_model)
    (folder / CARD).write_text(card, encoding="utf-8")
    return score


def require_token() -> None:
    """Refuse to upload without a token."""
    if hub_library().get_token() is None:
        raise UsageError(f"uploading to the hub needs a token that may write; {LOG_IN}; `-o DIR` uploads nothing")


def push(folder: Path, repo: str, message: str, private: bool = False) -> str:
    """Upload the files of a folder in one commit, into a new repository where there is none; return its address.

    What an earlier upload has left of files that this one lacks is deleted; other files stay.
    """
    api = hub_library().HfApi()
    with hub_errors(repo):
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=message, delete_patterns=[COMMAND, CURVE, MODEL]
        )
    return str(url)
