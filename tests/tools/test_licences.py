"""The table of licences is about the locked packages, and none of them has a licence that is not allowed."""

import csv

from tools.make_licences import ALLOWED, RUN_ONLY, TABLE, parts_of
from tools.make_locks import FOLDER, read_lock


def table():
    """Return package -> version and licence."""
    _, *rows = csv.reader(TABLE.read_text().splitlines())
    return {name: (version, licence) for name, version, licence in rows}


def test_the_table_has_every_locked_package_in_its_version():
    locked = [
        package
        for name in ("build", "dev", "torch-cuda")
        for package in read_lock(FOLDER / f"{name}.lock")
    ]
    versions = {name: version for name, (version, _) in table().items()}
    assert versions == {package.name: package.version for package in locked}, "run `make lock`"


def test_every_licence_is_allowed():
    refused = {
        name: licence for name, (_, licence) in table().items() if not parts_of(licence) <= ALLOWED
    }
    assert refused == RUN_ONLY
    assert not any(
        parts_of(licence) <= ALLOWED
        for licence in ("not stated", "GPL-3.0-only", "MIT AND GPL-3.0-only")
    )
