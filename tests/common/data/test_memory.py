"""How much memory there is."""

from agents.common.data import storage


def test_a_container_leaves_its_limit_without_what_is_used_apart_from_page_cache(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(storage, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\nactive_file 50000\n")
    assert storage.available_memory() == 550_000
