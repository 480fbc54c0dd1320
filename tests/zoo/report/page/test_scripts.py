import base64
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from zoo.report.page.scripts import FOLDER, VENDOR, content_security_policy, scripts, vendored


@pytest.mark.parametrize("entry", vendored(), ids=lambda entry: entry["file"])
def test_scripts_of_others_are_the_recorded_bytes_with_their_licence(entry):
    assert hashlib.sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert f"v{entry['version']} " in (VENDOR / entry["file"]).read_text()[:200]
    assert f"-{entry['version']}.tgz" in entry["source"]
    assert "Permission to use, copy, modify" in (VENDOR / entry["licence_file"]).read_text()


def test_every_file_that_is_vendored_is_recorded():
    recorded = {name for entry in vendored() for name in (entry["file"], entry["licence_file"])}
    assert {path.name for path in VENDOR.iterdir()} == recorded | {"vendored.yml"}


def test_wheel_has_every_file_of_the_page():
    package = tomllib.loads((FOLDER.parents[3] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "zoo"
    ]
    root = FOLDER.parents[2]
    included = {path for pattern in package for path in root.glob(pattern)}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} <= included


def test_policy_allows_the_scripts_of_the_page_alone():
    policy = content_security_policy()
    allowed = re.search(r"script-src ([^;]*);", policy)[1].split()
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts()]
    assert allowed == [f"'sha256-{value}'" for value in hashes]
    assert policy.startswith("default-src 'none';")


def test_scripts_can_stand_in_a_page():
    for script in scripts():
        assert not re.search(r"</script|<!--|\r", script, flags=re.IGNORECASE)
    own = "".join(path.read_text() for path in Path(FOLDER).glob("*.js"))
    assert "innerHTML" not in own
    assert "eval(" not in own
