import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from zoo import published
from zoo.report.published_scores import FOLDER, load_means, load_set


def test_list_tells_which_sets_have_single_runs(capsys):
    assert published.main(["list"]) == 0
    sets = {entry["set"]: entry for entry in json.loads(capsys.readouterr().out.splitlines()[-1])["sets"]}
    assert sets["qam2026"]["runs"] == "included"
    assert sets["trqam2026"]["runs"] == "none published"
    assert sets["trqam2026"]["suite"] == "qam50"


@pytest.mark.slow
def test_an_installed_package_brings_its_data(tmp_path):
    """A wheel is built from a copy of the sources, without a network, and used far from any checkout."""
    pytest.importorskip("setuptools", minversion="77")
    sources, wheels, site = (tmp_path / name for name in ("sources", "wheels", "site"))
    root = FOLDER.parents[1]
    for name in ("agents", "zoo", "hyperparams", "benchmarks", "results"):
        shutil.copytree(root / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, sources / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*build, str(sources), "-w", str(wheels)], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import agents, zoo.report.published_scores as p, zoo.settings.layers as c\n"
        f"assert agents.__file__.startswith({str(site)!r}), agents.__file__\n"
        "from pathlib import Path; from zoo.suites.suite import find_suite\n"
        "assert find_suite(Path('mini')).is_file()\n"
        "assert len(p.load_runs(p.load_set('mini')))\n"
        "print(len(p.load_means(p.load_set('qam2026'))), bool(c.read_profiles('qam')['qam']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == [str(len(load_means(load_set("qam2026")))), "True"], found.stderr
