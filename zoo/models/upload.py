"""The files of an agent on the hub: policy, settings, versions, learning curve, video and model card."""

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.common.model_file import read_about
from agents.common.sb3.policy import FlowPolicy
from agents.common.validation import count
from agents.registry import find
from zoo.models.agent import ENDING, Agent, play
from zoo.models.hub import COMMAND, CURVE, MODEL, POLICY, VIDEO, hub_library
from zoo.models.score import Score
from zoo.runs.folder import RunFolder
from zoo.runs.scores import RETURN, SCORE_KINDS
from zoo.settings.layers import dump_yaml
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

LIBRARY = "flow-rl-zoo"
TEMPLATE = Path(__file__).parent / "templates" / "card.md.jinja"
CARD, SETTINGS, VERSIONS = "README.md", "config.yml", "versions.json"
_FOLDERS = re.compile(r"(?<![\w./:])/(?=[^\s/])(?:[^/\n]*/)+")
"""The folders of an absolute path; their names may have spaces."""
_KEPT_SETTINGS = (
    "profile",
    "pretraining_steps",
    "offline_steps",
    "online_steps",
    "sparse",
    "dataset",
)


def write_upload(
    agent: Agent,
    folder: Path,
    repo: str,
    *,
    licence: str = "mit",
    chosen: str = "",
    with_model: bool = False,
    n_envs: int | None = None,
) -> Score:
    """Write everything about an agent into a folder, and return the score of its policy.

    The policy is played under its protocol for that; one that states its score, as the trained agents do, is copied as
    it is.

    :param repo: where the agent will be.
    :param licence: as the hub calls it.
    :param chosen: which model of its run it is, where that is not the final one.
    :param with_model: also the whole model, which can be trained on.
    :param n_envs: environments to play in; None takes as many as in training.
    :raises UsageError: if it is not an agent of this library, or there is no whole model.
    """
    if not isinstance(agent.policy, FlowPolicy):
        raise UsageError(
            f"{agent.algo} is one of SB3's algorithms; upload it with the package `huggingface_sb3`"
        )
    is_policy = agent.source.suffix == ENDING
    if with_model and is_policy:
        raise UsageError(
            f"`--with-model`: {agent.source} is a policy that only acts; leave it out, or give the run"
        )
    config, versions = read_training(agent)
    config = without_folders(config)  # what is uploaded is public
    for name in (COMMAND, CURVE, VIDEO):
        if agent.run is not None and (agent.run / name).is_file():
            shutil.copyfile(agent.run / name, folder / name)
    score = agent.stated
    # the score belongs to exactly these bytes
    if is_policy and score is not None:
        shutil.copyfile(agent.source, folder / POLICY)
    else:
        log.info("playing %s for the score on the card", count(agent.episodes, "episode"))
        _, score = play(agent, n_envs)
        about = describe_agent(agent, config, versions, licence) | {"score": asdict(score)}
        agent.policy.save(folder / POLICY, agent.policy.acting_networks(), about)
    if with_model:
        shutil.copyfile(agent.source, folder / MODEL)
    (folder / SETTINGS).write_text(dump_yaml(config), encoding="utf-8")
    (folder / VERSIONS).write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")
    files = {path.name for path in folder.iterdir()}
    command = ""
    if COMMAND in files:
        # words, since a folder's name may hold spaces and quotes
        words = shlex.split((folder / COMMAND).read_text(encoding="utf-8"))
        command = shlex.join(without_folders(words))
        (folder / COMMAND).write_text(command + "\n", encoding="utf-8")
    card = model_card(
        agent,
        config,
        versions,
        score,
        repo,
        licence=licence,
        chosen=chosen,
        files=files,
        command=command,
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    return score


def without_folders(value: Any) -> Any:
    """Return plain values with absolute paths cut to file names: folders reveal a machine and its user."""
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    return value


def read_training(agent: Agent) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of an agent, as in ``config.yml``, and the versions of what trained it."""
    if agent.run is not None:
        run = RunFolder(agent.run)
        return run.read_config().plain(), run.read_versions()
    about = {}
    if agent.source.suffix == ENDING:
        about = read_about(agent.source)
    packages = dict(about.get("versions") or {})
    config = {
        "algo": agent.algo,
        "env": agent.env,
        "seed": agent.replica,
        **(about.get("training") or {}),
    }
    if isinstance(agent.policy, FlowPolicy):
        # as `config.yml` has them: tuples become lists, and classes their names
        config["settings"] = json.loads(json.dumps(agent.policy.method.settings(), default=str))
    return config, {"python": packages.pop("python", None), "packages": packages}


def describe_agent(
    agent: Agent, config: Mapping[str, Any], versions: Mapping[str, Any], licence: str = "MIT"
) -> dict[str, Any]:
    """Return what the file of a policy says about it, besides its settings and spaces, which the policy says."""
    box: Any = agent.policy.action_space
    return {
        "algo": agent.algo,
        "env": agent.env,
        "env_id": agent.env_id,
        "seed": agent.replica,
        "chunk_length": agent.policy.chunk_length,
        "observation_shape": list(agent.policy.observation_space.shape or ()),
        "action_shape": list(box.shape),
        "actions": {"networks": [-1, 1], "low": box.low.tolist(), "high": box.high.tolist()},
        "protocol": {"episodes": agent.episodes, "seed": agent.seed, "env_kwargs": agent.env_kwargs}
        | agent.scoring.plain(),
        "training": {name: config.get(name) for name in _KEPT_SETTINGS},
        "versions": {"python": versions.get("python"), **versions.get("packages", {})},
        "licence": licence,
    }


def model_card(
    agent: Agent,
    config: Mapping[str, Any],
    versions: Mapping[str, Any],
    score: Score,
    repo: str,
    **about: Any,
) -> str:
    """Return the card, with the metadata that the hub understands.

    :param about: ``licence``, ``chosen``, ``files`` and ``command``, see `write_upload`.
    """
    hub = hub_library()
    # names that the hub's leaderboards know
    metric = "mean_reward" if score.kind == RETURN.name else "success_rate"
    result = hub.EvalResult(
        task_type="reinforcement-learning",
        task_name="reinforcement learning",
        dataset_type=agent.env,
        dataset_name=agent.env,
        metric_type=metric,
        metric_name=f"{score.kind}, mean of {count(score.episodes, 'episode')}",
        metric_value=score.mean,
    )
    metadata = hub.ModelCardData(
        library_name=LIBRARY,
        license=about["licence"],
        pipeline_tag="reinforcement-learning",
        tags=[
            "reinforcement-learning",
            "deep-reinforcement-learning",
            "flow-policy",
            agent.algo,
            agent.env,
            LIBRARY,
        ],
        model_name=repo.rpartition("/")[2],
        eval_results=[result],
    )
    plug_in = config.get("agent") or {}  # empty for a built-in algorithm
    # what a file may not import by itself stands in the command that plays it
    words = ["--from-hub", repo]
    if plug_in:
        words += ["--algo", plug_in["class"]]
    if ":" in agent.env:
        words += ["--env", agent.env]
    software = {"python": versions.get("python"), **(versions.get("packages") or {})}
    card = hub.ModelCard.from_template(
        metadata,
        str(TEMPLATE),
        agent=agent,
        algorithm=find(agent.algo),
        env_kwargs=without_folders(agent.env_kwargs),
        config=config,
        plug_in=plug_in,
        score=score,
        unit=SCORE_KINDS[score.kind].unit,
        words=shlex.join(words),
        settings=dump_yaml(config.get("settings") or {}).rstrip(),
        software={**software, "commit": versions.get("git_commit")},
        **about,
    )
    return str(card)
