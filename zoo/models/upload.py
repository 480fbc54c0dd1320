"""What is uploaded of an agent to the hub: its policy, settings, origin, learning curve, video and model card."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from agents.common.model_file import read_about
from agents.common.sb3.policy import FlowPolicy
from agents.registry import find
from zoo.errors import UsageError
from zoo.models.agent import ENDING, Agent, play
from zoo.models.hub import COMMAND, CURVE, MODEL, POLICY, VIDEO, hub_library
from zoo.models.score import Score
from zoo.playing.episodes import Scoring
from zoo.report.statistics import means as statistics
from zoo.runs.folder import RunFolder, UnreadableRun, numbered_folders
from zoo.runs.scores import KINDS, RETURN
from zoo.settings.layers import dump_yaml
from zoo.terminal.messages import log

LIBRARY = "flow-rl-zoo"
TEMPLATES = Path(__file__).parent / "templates"
CARD, SETTINGS, VERSIONS = "README.md", "config.yml", "versions.json"
_FOLDERS = re.compile(r"(^(?:-\w)?|[\s=]|:(?!//))/(?:[^/]+/)*(?=[^/\s])")
"""The folders of an absolute path, and what may stand before it: a flag, ``name=`` or ``name:``."""
_PROGRAM = re.compile(r"(?:.*/)?zoo(?:/(\w+)\.py)?")
"""What Python is given to run a program: the installed ``zoo``, or a file of the repository."""
_ARXIV = re.compile(r"(?:arXiv )?(\d{4}\.\d{5})")
_KEPT_SETTINGS = ("profile", "pretraining_steps", "offline_steps", "online_steps", "sparse", "dataset")


@dataclass(frozen=True)
class Origin:
    """Where an agent is from.

    :param config: settings, as ``config.yml`` has them, without the folders of the machine.
    :param versions: of the software that trained it.
    :param command: that trained it, without these folders too; None where that is not known.
    :param curve: file of the learning curve; None where there is none.
    :param video: file of a video, which ``zoo enjoy`` has put into the run folder; None where there is none.
    :param seeds: final scores of finished runs of the same settings, by seed; its own is among them.
    """

    config: dict[str, Any]
    versions: dict[str, Any]
    command: str | None = None
    curve: Path | None = None
    video: Path | None = None
    seeds: dict[int, Score] = field(default_factory=dict)


def origin_of(agent: Agent) -> Origin:
    """Return where an agent is from, as its run or its file says.

    :raises UsageError: if it is not one of this library.
    """
    if not isinstance(agent.policy, FlowPolicy):
        raise UsageError(f"{agent.algo} is one of SB3's algorithms; upload it with the package `huggingface_sb3`")
    if agent.run is not None:
        run = RunFolder(agent.run)
        return Origin(
            config=without_folders(run.read_config().plain()),
            versions=run.read_versions(),
            command=command_of(run),
            curve=run.learning_curve if run.learning_curve.is_file() else None,
            video=run.path / VIDEO if (run.path / VIDEO).is_file() else None,
            seeds=scores_of_seeds(run),
        )
    about = read_about(agent.source) if agent.source.suffix == ENDING else {}
    own = {name: value for name, value in agent.policy.method.settings().items() if _is_plain(value)}
    head = {"algo": agent.algo, "env": agent.env, "seed": agent.replica}
    packages = dict(about.get("versions") or {})
    versions = {"python": packages.pop("python", None), "packages": packages}
    return Origin({**head, **dict(about.get("training") or {}), "settings": own}, versions)


def without_folders(value: Any) -> Any:
    """Return plain values in which absolute paths, which tell of a machine and a user, are names of files."""
    if isinstance(value, dict):
        return {name: without_folders(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    return _FOLDERS.sub(r"\1", value) if isinstance(value, str) else value


def command_of(run: RunFolder) -> str | None:
    """Return the command that trained a run, as a user of the installed package gives it."""
    try:
        words = shlex.split((run.path / COMMAND).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or it is not one
        return None
    if program := _PROGRAM.fullmatch(words[1] if words[1:] else ""):
        words[:2] = ["zoo", *filter(None, program.groups())]
    return shlex.join(without_folders(words))


def write_files(
    agent: Agent, origin: Origin, folder: Path, *, licence: str, with_model: bool = False, n_envs: int | None = None
) -> Score:
    """Write everything about an agent but its card into a folder, and return the score of its policy.

    The policy is played under its protocol for that; one that states its score, as the trained agents do, is copied as
    it is.

    :param with_model: also the whole model, which can be trained on.
    :param n_envs: environments to play in; None takes as many as in training.
    :raises UsageError: if there is no whole model.
    """
    if with_model and agent.source.suffix == ENDING:
        raise UsageError(f"`--with-model`: {agent.source} is a policy that only acts; leave it out, or give the run")
    if agent.source.suffix == ENDING and agent.stated is not None:
        shutil.copyfile(agent.source, folder / POLICY)
        score = agent.stated
    else:
        log.info("playing %d episodes for the score on the card", agent.episodes)
        _, score = play(agent, n_envs)
        about = describe_agent(agent, origin.config, origin.versions, licence) | {"score": asdict(score)}
        assert isinstance(agent.policy, FlowPolicy)  # see `origin_of`
        agent.policy.save(folder / POLICY, agent.policy.acting_networks(), about)
    (folder / SETTINGS).write_text(dump_yaml(origin.config), encoding="utf-8")
    (folder / VERSIONS).write_text(json.dumps(origin.versions, indent=1) + "\n", encoding="utf-8")
    if origin.command is not None:
        (folder / COMMAND).write_text(origin.command + "\n", encoding="utf-8")
    for source, name in ((origin.curve, CURVE), (origin.video, VIDEO)):
        if source is not None:
            shutil.copyfile(source, folder / name)
    if with_model:
        shutil.copyfile(agent.source, folder / MODEL)
    return score


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


def scores_of_seeds(run: RunFolder) -> dict[int, Score]:
    """Return the final scores of finished runs with the settings of a run, in its log folder, by seed."""
    settings, found = run.read_config().identity(), {}
    for path in numbered_folders(run.path.parent, run.env).values():
        other = RunFolder(path)
        try:
            config = other.read_config()
            if other.read_status()["state"] == "done" and config.identity() == settings:
                last = {name: column[-1] for name, column in other.read_evaluations().items()}
                found[config.seed] = Score.of(last["results"], last.get("successes"), Scoring.of_run(config))
        except UnreadableRun as error:
            log.warning("%s; its score is left out of the card", error)
    return dict(sorted(found.items()))


def _is_plain(value: Any) -> bool:
    """Return whether YAML takes a value as it is."""
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def model_card(
    agent: Agent, origin: Origin, score: Score, repo: str, *, licence: str, chosen: str | None = None,
    with_model: bool = False,
) -> str:  # fmt: skip
    """Return the card, metadata first.

    :param repo: where the agent will be.
    :param licence: as the hub calls it, e.g. ``mit``.
    :param chosen: which model of its run it is, where that is not the final one.
    :param with_model: whether the whole model is uploaded too.
    """
    own = origin.config.get("agent") or {}
    named = {"--algo": own.get("class", ""), "--env": agent.env if ":" in agent.env else ""}
    seeds = {seed: each for seed, each in origin.seeds.items() if each.kind == score.kind}
    means = np.array([each.mean for each in seeds.values()] or [score.mean])
    estimate = statistics.mean({"": means}, KINDS[score.kind].limits).estimate(0)
    low, high = estimate.interval or (estimate.point, estimate.point)
    phases = {name: origin.config.get(f"{name}_steps") for name in ("pretraining", "offline", "online")}
    packages = {"python": origin.versions.get("python"), **dict(origin.versions.get("packages") or {})}
    packages["commit"] = origin.versions.get("git_commit")
    return _template().render(
        agent=agent, origin=origin, score=score, library=LIBRARY, licence=licence, chosen=chosen,
        with_model=with_model, kind=KINDS[score.kind], seeds=seeds, differ=estimate.interval is not None,
        over_seeds=Score(score.kind, estimate.point, low, high, len(means)),
        metadata=_metadata(agent, score, repo, licence),
        title=f"{find(agent.algo).published_name} in {agent.env}", paper=find(agent.algo).paper,
        words=shlex.join(["--from-hub", repo, *(word for pair in named.items() if pair[1] for word in pair)]),
        needed=", ".join(filter(None, (own.get("package"), *named.values()))),
        steps=[f"{count:,} {name} steps" for name, count in phases.items() if count],
        settings=dump_yaml(origin.config.get("settings") or {}).rstrip(),
        software={name: version for name, version in packages.items() if version},
    )  # fmt: skip


def _metadata(agent: Agent, score: Score, repo: str, licence: str) -> str:
    """Return the metadata that the hub understands, as YAML."""
    hub = hub_library()
    result = hub.EvalResult(
        task_type="reinforcement-learning",
        task_name="reinforcement learning",
        dataset_type=agent.env,
        dataset_name=agent.env,
        metric_type="mean_reward" if score.kind == RETURN.name else "success_rate",
        metric_name=f"{score.kind}, mean of {score.episodes} episodes",
        metric_value=score.mean,
    )
    data = hub.ModelCardData(
        library_name=LIBRARY,
        license=licence,
        pipeline_tag="reinforcement-learning",
        tags=["reinforcement-learning", "deep-reinforcement-learning", "flow-policy", agent.algo, agent.env, LIBRARY],
        model_name=repo.rpartition("/")[2],
        eval_results=[result],
    )
    return str(data.to_yaml())


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"text": _text, "code": _code, "block": _block, "words": _in_words, "links": _links}
    return environment.get_template("card.md.jinja")


def _in_words(values: dict[str, Any]) -> str:
    return _text(", ".join(f"{name} {value}" for name, value in values.items()) or "none")


def _text(value: Any) -> str:
    """Return a text from a file as one line of Markdown that is shown as it is: no HTML, link or picture."""
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def _links(text: str) -> str:
    """Return a text in which the papers of arXiv are links."""
    return _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def _code(value: Any) -> str:
    """Return a name from a file as code in a line."""
    return f"`{' '.join(str(value).split()).replace('`', '')}`"


def _block(text: str, language: str) -> str:
    """Return a text as a block of code whose fence is longer than any in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"
