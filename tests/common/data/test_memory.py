"""How much memory there is."""

import pytest

from agents.common.data import storage


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "limit", "usage"),
    [(".", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")],
)
def test_a_container_leaves_its_limit_without_what_is_used_apart_from_page_cache(cgroups, folder, limit, usage):
    (cgroups / folder).mkdir(exist_ok=True)
    (cgroups / folder / limit).write_text("1000000\n")
    (cgroups / folder / usage).write_text("700000\n")
    (cgroups / folder / "memory.stat").write_text("anon 1\ninactive_file 200000\nactive_file 50000\n")
    assert storage.available_memory() == 550_000
