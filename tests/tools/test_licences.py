"""The table of licences is about the locked packages, and none of them has a licence that is not allowed."""

import csv

from tools.make_licences import ALLOWED, RUN_ONLY, TABLE, parts_of
from tools.make_locks import FOLDER, read_lock


def table():
    """Return package -> version and licence."""
    _, *rows = csv.reader(TABLE.read_text().splitlines())
    return {name: (version, licence) for name, version, licence in rows}


def test_the_table_has_every_locked_package_in_its_version():
    locked = {}
    for name in ("build", "dev", "torch-cuda"):
        locked |= dict(read_lock(FOLDER / f"{name}.lock"))
    versions = {name: version for name, (version, _) in table().items()}
    assert versions == locked, "run `make lock`"


def test_every_licence_is_allowed():
    licences = {name: licence for name, (_, licence) in table().items()}
    for name, licence in RUN_ONLY.items():
        assert licences.pop(name) == licence
    for name, licence in licences.items():
        assert parts_of(licence) <= ALLOWED, name
    for licence in ("not stated", "GPL-3.0-only", "MIT AND GPL-3.0-only"):
        assert not parts_of(licence) <= ALLOWED
