"""The record of a run: which runs count as equal, and records are read as they were written."""

import dataclasses

import pytest

from zoo.settings.config import load_config
from zoo.settings.layers import dump_yaml, load_yaml
from zoo.settings.record import RunRecord, RunSettings
from zoo.settings.request import RARELY_GIVEN, TrainRequest
from zoo.train import make_parser


def test_a_setting_of_a_run_is_a_flag_with_a_meaning():
    flags = {action.dest: action.help for action in make_parser()._actions}
    assert all(flags[name] for name in RunSettings.declared() if name not in RARELY_GIVEN)


ENTRIES = {
    "format": 1,
    "algo": "qam",
    "env": "some-v0",
    "seed": 3,
    "offline_steps": 20,
    "settings": {"gamma": 0.9},
}


def identity(text, *roles):
    """Return the identity of a run that has the entries in a YAML text."""
    return RunRecord.read(ENTRIES | load_yaml(text, "entries")).identity(*roles)


def test_what_is_written_is_what_is_read():
    # values to which plain YAML gives another type: a tuple, and a list of an integer and a word
    params = ["reference_scores=[-300,1]", "train_freq=[2,episode]"]
    config = load_config(TrainRequest(algo="qam", env="some-v0", hyperparams=params))
    dataset = {"name": "d", "size": 9, "fingerprint": "01"}
    record = dataclasses.replace(config, seed=3, label="mine", dataset=dataset)
    record_read = RunRecord.read(load_yaml(dump_yaml(record.plain()), "a record"))
    assert record_read.plain() == record.plain()
    assert record_read.identity() == record.identity()


@pytest.mark.parametrize(
    ("text", "roles"),
    {
        "sources: [-params gamma=0.9]": (),
        "eval_at_start: true": (),
        "{seed: 4, seeds: [4, 5], folders: [a, b]}": (),
        "agent: {class: 'mine:Mine'}": (),
        "{dataset_size: null, score: null}": (),
        "settings: {gamma: 0.9, per_network: null}": (),
        "settings: {gamma: 0.9, precision: bf16}": ("machine",),
        "dataset: {name: moved}": (),
        "dataset: {fingerprint: '01'}": ("data",),
        "{save_freq: 7, log_interval: 7}": (),
    }.items(),
)
def test_an_entry_makes_no_other_run_where_its_role_is_left_out(text, roles):
    assert identity(text, *roles) == identity("{}", *roles)


@pytest.mark.parametrize(
    "text",
    [
        "settings: {gamma: 0.8}",
        "settings: {gamma: 0.9, precision: bf16}",
        "dataset: {fingerprint: '01'}",
        "label: mine",
        "online_steps: 1",
        "eval_seed: 1",
    ],
)
def test_entry_that_decides_numbers_or_names_makes_another_run(text):
    assert identity(text) != identity("{}")
