"""The model card of an agent: what the hub reads of it, and what people do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from agents.registry import find_named_by_file
from zoo import plain_yaml
from zoo.hub.bundle import COMMAND, CURVE, MODEL, SETTINGS, VERSIONS, Origin
from zoo.hub.client import hub_library
from zoo.hub.download import POLICY
from zoo.report import statistics
from zoo.runs.scores import KINDS, RETURN
from zoo.watching.agent import Agent
from zoo.watching.score import Score

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
    title = f"{_name_of(agent.algo)} in {agent.env}"
    parts = [
        f"# {title}",
        f"An agent of Flow RL Zoo (`{LIBRARY}`): algorithm `{agent.algo}`, environment `{agent.env}`, seed "
        f"{agent.replica}{f', {chosen}' if chosen else ''}.",
        *_usage(repo, with_model),
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


def _name_of(algo: str) -> str:
    found = find_named_by_file(algo)
    return getattr(found, "published_name", None) or algo


def _usage(repo: str, with_model: bool) -> Iterator[str]:
    yield "## Play it"
    yield (
        f"```bash\npip install '{LIBRARY}[hub]'\nzoo enjoy --from-hub {repo} --video agent.gif\n"
        f"zoo evaluate --from-hub {repo}   # plays it under its protocol, and compares with the score below\n```"
    )
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
    assert estimate.interval is not None  # of two seeds or more
    mean = Score(kind.name, estimate.point, *estimate.interval, len(means))
    return f"Mean of {len(means)} seeds: {mean.mean_text}, 95% interval {mean.interval.text} (Student's, over seeds)."


def _training(agent: Agent, origin: Origin) -> Iterator[str]:
    yield "## Training"
    if origin.curve is not None:
        yield f"![Learning curve of {agent.algo} on {agent.env}]({CURVE})"
    if origin.command is not None:
        yield f"```text\n{origin.command}\n```\n\nThis command (`{COMMAND}`) trained it."
    phases = {name: origin.config.get(name) for name in ("pretraining_steps", "offline_steps", "online_steps")}
    steps = [f"{count:,} {name.partition('_')[0]} steps" for name, count in phases.items() if count]
    if steps:
        yield f"{', '.join(steps).capitalize()}, profile `{origin.config.get('profile')}`."
    if isinstance(dataset := origin.config.get("dataset"), dict):
        yield f"Data: {_in_words(dataset)}."
    yield f"Settings (`{SETTINGS}`):\n\n```yaml\n{plain_yaml.write(origin.config.get('settings') or {}).rstrip()}\n```"


def _software(origin: Origin) -> Iterator[str]:
    packages = {"python": origin.versions.get("python"), **dict(origin.versions.get("packages") or {})}
    known = {name: version for name, version in packages.items() if version}
    if known:
        yield f"## Software\n\n{_in_words(known)} (`{VERSIONS}`)."


def _in_words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"
