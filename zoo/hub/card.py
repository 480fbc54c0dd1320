"""The model card of an agent: what the hub reads of it, and what people do."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from agents.registry import find
from zoo import plain_yaml
from zoo.hub.bundle import Origin
from zoo.models.agent import Agent
from zoo.models.hub import hub_library
from zoo.models.score import Score
from zoo.report import statistics
from zoo.runs.scores import KINDS, RETURN

LIBRARY = "flow-rl-zoo"
TEMPLATES = Path(__file__).parent / "templates"


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
    named = {"--algo": own.get("class"), "--env": agent.env if ":" in agent.env else None}
    seeds = {seed: each for seed, each in origin.seeds.items() if each.kind == score.kind}
    means = np.array([each.mean for each in seeds.values()] or [score.mean])
    estimate = statistics.mean({"": means}, KINDS[score.kind].limits).estimate(0)
    low, high = estimate.interval or (estimate.point, estimate.point)
    phases = {name: origin.config.get(f"{name}_steps") for name in ("pretraining", "offline", "online")}
    packages = {"python": origin.versions.get("python"), **dict(origin.versions.get("packages") or {})}
    return _template().render(
        agent=agent, origin=origin, score=score, library=LIBRARY, licence=licence, chosen=chosen,
        with_model=with_model, kind=KINDS[score.kind], seeds=seeds, differ=estimate.interval is not None,
        over_seeds=Score(score.kind, estimate.point, low, high, len(means)),
        metadata=_metadata(agent, score, repo, licence),
        title=f"{find(agent.algo).published_name} in {agent.env}",
        words=shlex.join(["--from-hub", repo, *(word for pair in named.items() if pair[1] for word in pair)]),
        needed=", ".join(filter(None, (own.get("package"), *named.values()))),
        steps=[f"{count:,} {name} steps" for name, count in phases.items() if count],
        settings=plain_yaml.write(origin.config.get("settings") or {}).rstrip(),
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
    environment.filters |= {"text": _text, "code": _code, "block": _block, "words": _in_words}
    return environment.get_template("card.md.jinja")


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
