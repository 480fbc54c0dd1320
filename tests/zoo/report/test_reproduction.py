import functools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import SCENE, scene_runs
from zoo.report import reproduction
from zoo.report.comparison import ComparedMethod
from zoo.report.published_scores import load_means, load_set
from zoo.report.reproduction import expected_settings, reproduce, set_differences


@pytest.fixture(scope="module", autouse=True)
def _read_once():
    """Read each published set once for all tests, which takes seconds."""
    read = functools.cache(lambda name: load_means(load_set(name)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduction, "load_means", lambda published: read(published.name))
        yield


def reproduced(scores, published="qam2026", algorithm="QAM", **about):
    """Return place -> how an algorithm's scores, a list for each task of scene, compare with its published ones."""
    methods = {"qam": ComparedMethod("qam", algorithm, "own", **about)}
    entries = reproduce(methods, scene_runs(scores), [load_set(published)], 0.05)
    return {entry.where: entry for entry in entries.itertuples()}


def test_published_value_and_own_runs_give_a_difference_with_a_verdict():
    # QAM's published means on the tasks of scene: 100, 98.33, 99.5, 99.67 and 87 %.
    near = [[1.0, 1.0, 0.98, 1.0, 1.0, 1.0]] * 4 + [[0.86, 0.88, 0.84, 0.9, 0.86, 0.88]]
    places = reproduced(near)
    assert set(places) == {*SCENE, "scene-play"}
    scene = places["scene-play"]
    assert scene.published_mean == pytest.approx(0.969, abs=1e-3)
    assert scene.own_mean == pytest.approx(np.mean(near))
    assert scene.difference.point == pytest.approx(np.mean(near) - scene.published_mean)
    assert scene.verdict == "agrees"
    assert (scene.published_seeds, scene.own_seeds) == (12, (6, 6))


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [([0.5, 0.52, 0.48], "differs"), ([1.0, 0.6, 1.0, 1.0], "open"), ([1.0], "no interval")],
)
def test_the_interval_decides_the_verdict(scores, verdict):
    assert verdict in {entry.verdict for entry in reproduced([scores] * 5).values()}


def test_difference_has_scipys_welch_interval():
    scores = [0.9, 0.8, 0.95, 1.0, 0.85, 0.9]
    # Satterthwaite over the five tasks and the published domain (64 % +- 4 over 8 seeds), written out.
    parts = np.array([np.var(scores, ddof=1) / 5**2 / 6] * 5 + [0.04**2 / 8])
    freedom = parts.sum() ** 2 / (parts**2 / [5, 5, 5, 5, 5, 7]).sum()
    half = stats.t.ppf(0.975, freedom) * parts.sum() ** 0.5
    difference = np.mean(scores) - 0.64
    interval = reproduced([scores] * 5, "trqam2026")["scene-play"].difference.interval
    assert interval == pytest.approx((difference - half, difference + half))


def test_every_setting_that_differs_from_the_published_one_is_named_unless_it_changes_no_number():
    changes = {"gamma": "0.5", "inverse_temperature": "99.0", "mine": "True"}
    settings = {env: expected_settings("QAM", env, "qam") | changes for env in SCENE}
    protocols = {env: {"sparse": True} for env in SCENE}
    for entry in reproduced([[1.0, 0.9]] * 5, protocols=protocols, settings=settings).values():
        assert entry.protocol == [
            "gamma 0.5 against 0.99",
            "inverse_temperature 99.0 against 1.0",
            "mine True against none",
        ]
    assert not {"device", "verbose", "compile"} & settings[SCENE[0]].keys()


def test_published_mean_without_a_spread_gives_no_interval_and_names_its_scoring():
    protocols = {env: {"sparse": True} for env in SCENE}
    places = reproduced([[0.9, 0.8, 0.85]] * 5, "rql2026", "RQL", protocols=protocols)
    domain = places["scene-play"]
    assert (domain.published_mean, domain.published_seeds) == (0.89, 4)
    assert domain.difference.interval is None
    assert domain.verdict == "no interval"
    assert domain.protocol[-1].startswith("scoring not stated")


def test_settings_of_a_profile_that_does_not_exist_are_not_compared():
    published = load_set("qam2026")
    published = replace(published, protocol=published.protocol | {"profile": "nobody"})
    method = ComparedMethod("qam", "QAM", "own", {SCENE[0]: {}})
    assert set_differences("offline", method, SCENE[0], published) == ["settings not compared"]
