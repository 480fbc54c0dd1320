"""Upload an agent to the Hugging Face hub: policy, settings and a model card."""

import shlex
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.common.model_file import read_about, read_model_file
from agents.common.validation import count
from agents.registry import find, name_of
from zoo.evaluation.play import play
from zoo.models.agent import (
    ENDING,
    POLICY,
    Agent,
    hub_errors,
    hub_library,
    require_plain_arguments,
)
from zoo.models.score import Score
from zoo.runs.folder import RunFolder
from zoo.runs.scores import RETURN
from zoo.settings.layers import dump_yaml
from zoo.terminal.messages import log

CARD, SETTINGS = "README.md", "config.yml"
TEMPLATE = Path(__file__).parent / "templates" / "card.md.jinja"
_KEPT_SETTINGS = ("profile", "sparse", "dataset")


def upload(agent: Agent, repo: str) -> tuple[str, Score]:
    """Upload an agent in one commit, creating the repository if needed; return the repository's address and the score.

    Files of an earlier upload are replaced; other files are kept.
    """
    agent.flow_policy()  # rejects policies of SB3
    require_plain_arguments(agent.source, agent.env_kwargs)
    api = hub_library().HfApi()
    with hub_errors(repo):
        # before the evaluation, which takes minutes; if the repository exists, only `auth_check` needs a token
        url = api.create_repo(repo, exist_ok=True)
        api.auth_check(repo, write=True)
    with tempfile.TemporaryDirectory() as folder:
        score = write_upload(agent, Path(folder), repo)
        with hub_errors(repo):
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message="Upload an agent",
            )
    return str(url), score


def write_upload(agent: Agent, folder: Path, repo: str) -> Score:
    """Write the files to upload, which contain no paths of this machine, and return the policy's score.

    The policy is evaluated under its protocol. If its file contains a score already, as files of trained agents do,
    the file is copied unchanged instead.

    :param repo: the repository, ``name/agent``.
    :raises UsageError: if the algorithm is not from this library, or the environment needs a file on this machine.
    """
    policy = agent.flow_policy()
    if agent.stated is not None:
        # copy the file unchanged, because its score was obtained with exactly these bytes
        shutil.copyfile(agent.source, folder / POLICY)
        about = {"training": {}, "versions": {}, **read_about(agent.source)}
        score = agent.stated
    else:
        log.info("running %s for the score on the model card", count(agent.episodes, "episode"))
        score = Score.of(play(agent))
        about = describe_agent(agent) | {"score": asdict(score)}
        policy.save(folder / POLICY, policy.acting_networks(), about)
    about["settings"] = policy.method.settings()
    (folder / SETTINGS).write_text(dump_yaml(about), encoding="utf-8")
    model_card(agent, about, score, repo).save(folder / CARD)
    return score


def describe_agent(agent: Agent) -> dict[str, Any]:
    """Return the description of an agent for its policy file: protocol, training and versions."""
    training: dict[str, Any] = {}
    if agent.run is not None:
        config = RunFolder(agent.run).read_config().plain()
        training = {name: config.get(name) for name in _KEPT_SETTINGS}
        saved = read_model_file(agent.source).described  # may be the best model or a checkpoint
        cloned = min(saved["offline_steps"], saved["pretraining_steps"])
        training |= {
            "pretraining_steps": cloned,
            "offline_steps": saved["offline_steps"] - cloned,
            "online_steps": saved["num_timesteps"] - saved["offline_steps"],
        }
    elif agent.source.suffix == ENDING:
        training = read_about(agent.source).get("training") or {}
    protocol = {"episodes": agent.episodes, "seed": agent.seed, "env_kwargs": agent.env_kwargs}
    return {
        "algo": agent.algo,
        "env": agent.env,
        "seed": agent.replica,
        "protocol": protocol | agent.scoring.plain(),
        "training": training,
        "versions": agent.versions,
    }


def model_card(agent: Agent, about: dict[str, Any], score: Score, repo: str) -> Any:
    """Return the model card, with metadata in the hub's format.

    :param about: result of :func:`describe_agent`, and the algorithm's ``settings``.
    """
    library = hub_library()
    result = library.EvalResult(
        task_type="reinforcement-learning",
        task_name="reinforcement learning",
        dataset_type=agent.env,
        dataset_name=agent.env,
        # metric names of the hub's leaderboards
        metric_type="mean_reward" if score.kind == RETURN.name else "success_rate",
        metric_name=f"{score.kind}, mean of {count(score.episodes, 'episode')}",
        metric_value=score.mean,
    )
    metadata = library.ModelCardData(
        library_name="flow-rl-zoo",
        license="mit",
        pipeline_tag="reinforcement-learning",
        tags=["reinforcement-learning", "flow-policy", agent.algo, agent.env],
        model_name=repo.rpartition("/")[2],
        eval_results=[result],
    )
    # the command on the card names modules to import, because a policy file may not select them
    words = ["--from-hub", repo]
    algorithm_name = name_of(type(agent.policy.method))
    if ":" in algorithm_name:
        words += ["--algo", algorithm_name]
    for _, _, flag in agent.imports:
        words += flag.split()
    return library.ModelCard.from_template(
        metadata,
        str(TEMPLATE),
        agent=agent,
        about=about,
        algorithm=find(agent.algo),
        score=score,
        words=shlex.join(words),
        settings=dump_yaml(about["settings"]).rstrip(),
    )
