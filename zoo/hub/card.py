"""The model card of an agent: what the hub reads of it, and what people do."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np

from agents.registry import find
from zoo import plain_yaml
from zoo.hub.bundle import COMMAND, CURVE, MODEL, SETTINGS, VERSIONS, Origin
from zoo.models.agent import Agent
from zoo.models.download import POLICY
from zoo.models.hub_client import hub_library
from zoo.models.score import Score
from zoo.report import statistics
from zoo.runs.scores import KINDS, RETURN

LIBRARY = "flow-rl-zoo"


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
    title = f"{find(agent.algo).published_name} in {agent.env}"
    parts = [
        f"# {_text(title)}",
        f"An agent of Flow RL Zoo (`{LIBRARY}`): algorithm {_code(agent.algo)}, environment {_code(agent.env)}, seed "
        f"{agent.replica}{f', {chosen}' if chosen else ''}.",
        *_usage(agent, origin, repo, with_model),
        *_scores(agent, origin, score, chosen),
        *_training(agent, origin),
        *_software(origin),
        f"## Licence\n\n`{licence}`",
    ]
    return f"---\n{_metadata(agent, score, repo, licence)}\n---\n\n" + "\n\n".join(parts) + "\n"


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


def _usage(agent: Agent, origin: Origin, repo: str, with_model: bool) -> Iterator[str]:
    own = origin.config.get("agent") or {}
    named = {"--algo": own.get("class"), "--env": agent.env if ":" in agent.env else None}
    words = shlex.join(["--from-hub", repo, *(word for pair in named.items() if pair[1] for word in pair)])
    yield "## Play it"
    yield _block(
        f"pip install '{LIBRARY}[hub]'\nzoo enjoy {words} --video agent.gif\n"
        f"zoo evaluate {words}   # plays it under its protocol, and compares with the score below",
        "bash",
    )
    if needed := ", ".join(filter(None, (own.get("package"), *named.values()))):
        yield f"This needs code that is not here: {_text(needed)}."
    yield f"This downloads `{POLICY}` and nothing else. It is in the safetensors format, and loading it runs nothing."
    if with_model:
        yield (
            f"`{MODEL}` is the whole model, to train on with `zoo train -i {MODEL}` or to load with "
            f'`agents.load("{MODEL}")`.'
        )


def _scores(agent: Agent, origin: Origin, score: Score, chosen: str | None) -> Iterator[str]:
    kind = KINDS[score.kind]
    yield "## Score"
    head = f"| seed | {kind.unit} | 95% interval | episodes |\n|---|---|---|---|"
    author = "Student" if score.kind == RETURN.name else "Wilson"
    yield f"{head}\n{_row(f'{agent.replica} (this agent)', score)}"
    yield (
        f"Protocol: {score.episodes} episodes, whose starts and noise come from seed {agent.seed}; environment "
        f"arguments: {_in_words(agent.env_kwargs)}. The score is that of `{POLICY}` itself. The interval is over these "
        f"episodes ({author}'s) and says nothing about other seeds of training."
    )
    if chosen:
        yield "This model was chosen among those of its run, so it may score lower in new episodes."
    same = {seed: each for seed, each in origin.seeds.items() if each.kind == score.kind}
    if len(same) > 1:
        rows = "\n".join(_row(str(seed), each) for seed, each in same.items())
        yield f"All finished runs of these settings, each at its end:\n\n{head}\n{rows}"
        yield _mean_over_seeds([each.mean for each in same.values()], kind)


def _row(name: str, score: Score) -> str:
    return f"| {name} | {score.mean_text} | {score.interval.text} | {score.episodes} |"


def _mean_over_seeds(means: list[float], kind: Any) -> str:
    estimate = statistics.mean({"": np.array(means)}, kind.limits).estimate(0)
    low, high = estimate.interval or (estimate.point, estimate.point)
    mean = Score(kind.name, estimate.point, low, high, len(means))
    interval = f"95% interval {mean.interval.text} (Student's, over seeds)"
    if estimate.interval is None:
        interval = "which are equal, so that they tell no interval"
    return f"Mean of {len(means)} seeds: {mean.mean_text}, {interval}."


def _training(agent: Agent, origin: Origin) -> Iterator[str]:
    yield "## Training"
    if origin.curve is not None:
        yield f"![Learning curve of {_text(agent.algo)} on {_text(agent.env)}]({CURVE})"
    if origin.command is not None:
        yield f"{_block(origin.command, 'text')}\n\nThis command (`{COMMAND}`) trained it."
    phases = {name: origin.config.get(name) for name in ("pretraining_steps", "offline_steps", "online_steps")}
    steps = [f"{count:,} {name.partition('_')[0]} steps" for name, count in phases.items() if count]
    if steps:
        yield f"{', '.join(steps).capitalize()}, profile {_code(origin.config.get('profile'))}."
    if isinstance(dataset := origin.config.get("dataset"), dict):
        yield f"Data: {_in_words(dataset)}."
    settings = plain_yaml.write(origin.config.get("settings") or {}).rstrip()
    yield f"Settings (`{SETTINGS}`):\n\n{_block(settings, 'yaml')}"


def _software(origin: Origin) -> Iterator[str]:
    packages = {"python": origin.versions.get("python"), **dict(origin.versions.get("packages") or {})}
    known = {name: version for name, version in packages.items() if version}
    if known:
        yield f"## Software\n\n{_in_words(known)} (`{VERSIONS}`)."


def _in_words(values: dict[str, Any]) -> str:
    return _text(", ".join(f"{name} {value}" for name, value in values.items()) or "none")


def _text(value: Any) -> str:
    """Return a text from a file as one line of Markdown that is shown as it is: no HTML, link or picture."""
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def _code(value: Any) -> str:
    """Return a name from a file as code in a line."""
    return f"`{' '.join(str(value).split()).replace('`', '')}`"


def _block(text: str, language: str) -> str:
    """Return a text as a block of code whose fence is longer than any in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"
