import pytest
import yaml

from tests import code_blocks
from zoo.datasets.names import tasks_of
from zoo.report import scores as published
from zoo.report.scores import last_evaluations
from zoo.runs.protocol import PROTOCOL, phase_ends

OVERALL_OF_QAM = (
    "QAM-E 45.71, QAM-F 45.40, QAM 44.39, QSM 41.55, ReBRAC 39.99, DSRL 38.39, CGQL-L 36.83, FQL 35.74, DAC 36.49, "
    "BAM 35.38, CGQL-M 34.62, IFQL 34.42, FEdit 32.64, CGQL 29.79, FBRAC 10.77, FAWAC 8.42"
)
"""The release's overall offline scores in %, as others computed them from the authors' data."""


def read_scores(text):
    """Return method -> score."""
    words = [entry.rpartition(" ") for entry in text.split(", ")]
    return {method: float(score) for method, _, score in words}


def test_means_of_qam_are_the_published_overall_scores():
    runs = last_evaluations(published.load_set("qam2026").scores.evaluations)
    ends = set(zip(runs["phase"], runs["step"], strict=True))
    assert ends == {("offline", 1_000_000), ("online", 1_500_000)}
    tasks = runs.groupby(["phase", "method", "environment"])["score"].agg(["mean", "size"])
    assert set(tasks["size"]) == {12}
    assert tasks.groupby("phase").size().to_dict() == {"offline": 50 * 16, "online": 50 * 17}
    overall = tasks["mean"]["offline"].groupby("method").mean()
    assert (100 * overall).round(2).to_dict() == pytest.approx(
        read_scores(OVERALL_OF_QAM), abs=0.011
    )


@pytest.mark.parametrize("name", published.set_names())
def test_every_set_has_the_tasks_of_its_suite_and_known_names(name):
    entry = published.load_set(name)
    scores = entry.scores
    tasks = set().union(*map(tasks_of, scores.table["environment"].unique()))
    assert tasks == published.suite_tasks(entry.suite)
    for method in scores.methods.values():
        assert entry.domains.keys() <= method.protocols.keys()
        assert set().union(*method.protocols.values()) <= set(PROTOCOL)
    assert entry.methods.keys() <= scores.methods.keys()


@pytest.mark.parametrize("name", ["qam2026", "mini"])
def test_every_run_of_a_set_was_evaluated_after_each_phase(name):
    entry = published.load_set(name)
    runs = entry.scores.evaluations
    last = runs.groupby(["method", "environment", "domain", "seed", "phase"])["step"].max()
    ends_of_runs = {}
    for (*run, phase), step in last.to_dict().items():
        ends_of_runs.setdefault(tuple(run), {})[phase] = step
    for (method, environment, domain, seed), ends in ends_of_runs.items():
        expected = phase_ends(entry.protocol_of(method, domain))
        # RLPD has only online steps, which are shown after the other methods' offline steps
        is_whole = all(ends[phase] >= step for phase, step in expected.items())
        assert is_whole, (method, environment, seed)


def test_the_entry_on_the_page_about_new_sets_is_one(monkeypatch):
    (block,) = code_blocks("docs/published.md", "yaml")
    monkeypatch.setattr(published, "_metadata", lambda: {"sets": yaml.safe_load(block)})
    protocol = published.load_set("my2026").protocol_of("My Method", "scene-play")
    assert protocol["offline_steps"] == 1_000_000
