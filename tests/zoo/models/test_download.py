"""Using agents from the hub reads one file, rejects files that are not policies, and explains failures of the hub."""

import json
import pickle
from dataclasses import replace

import pytest
from safetensors.torch import load, save

from tests.common.toys import Trap
from tests.zoo.hub.stand_in import Repository
from tests.zoo.models.conftest import ENV
from tests.zoo.outcomes import refuses
from zoo.evaluate import main
from zoo.models.agent import agent_of_file, download_policy, find_trained
from zoo.models.upload import describe_agent
from zoo.runs.scores import ScoringRule

POLICY = "policy.safetensors"


def trained():
    return find_trained("bc", ENV).read_bytes()


def header_of(content):
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size])["__metadata__"]


def changed(**texts):
    """Return a trained policy with other texts in its file."""
    content = trained()
    return save(load(content), header_of(content) | texts)


def described(part, **values):
    """Return a trained policy with changed values in one part of its metadata."""
    old_values = json.loads(header_of(trained())[part])
    return changed(**{part: json.dumps(old_values | values)})


def test_one_file_is_asked_for_and_nothing_in_repository_is_run(hub):
    card = b"---\n!!python/object/apply:pytest.fail [code from a file was run]\n---\n"
    files = dict.fromkeys(("model.zip", "config.json", "policy.pkl"), pickle.dumps(Trap()))
    files |= {"README.md": card, "config.yml": card, "modeling.py": b"raise SystemExit(9)"}
    hub.put("them/agent", {POLICY: trained(), **files})
    assert main(["--from-hub", "them/agent", "--episodes", "1"]) == 0
    assert set(hub.asked) == {POLICY}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: described("policy", method="elsewhere.module:Agent"), "with --algo elsewhere.module:Agent"),
        (lambda: changed(sha256="0" * 64), "its SHA-256 does not match its content"),
        (lambda: described("about", env="this:Env-v0"), "pass --env this:Env-v0"),
        (lambda: pickle.dumps([1]), "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_not_a_policy_of_this_library_is_refused(hub, refusal, content, message):
    hub.put("them/agent", {POLICY: content()})
    assert message in refusal(main, "--from-hub", "them/agent")


def test_what_its_episodes_are_scored_by_is_part_of_the_protocol(tmp_path):
    agent = agent_of_file(find_trained("bc", ENV), None, "cpu")
    scored = replace(agent, scoring=ScoringRule(success_return=-5.0, reference_scores=(0.0, 1.0)))
    agent.policy.save(tmp_path / POLICY, agent.policy.acting_networks(), describe_agent(scored))
    assert agent_of_file(tmp_path / POLICY, None, "cpu").scoring == scored.scoring


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("me/private", "for private repositories and uploads, log in with `hf auth login`"),
        ("me/empty", "expected the file policy.safetensors"),
    ],
)
def test_what_is_not_on_the_hub_is_one_sentence(hub, name, message):
    hub.put("me/empty", {"README.md": b""})
    hub.repositories["me/private"] = Repository(private=True)
    hub.put("me/private", {POLICY: trained()})
    assert download_policy("me/private").read_bytes() == trained()
    hub.token = None
    with refuses(message):
        download_policy(name)
