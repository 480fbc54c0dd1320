import sys

from zoo import published


def test_list_tells_which_sets_have_single_runs_and_a_person_what_to_do_next(
    call, capsys, monkeypatch
):
    result, _ = call(published.main, "list")
    sets = {entry["set"]: (entry["suite"], entry["runs"]) for entry in result["sets"]}
    assert sets["qam2026"] == ("qam50", "included")
    assert sets["trqam2026"] == ("qam50", "none published")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert published.main(["list"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "next: zoo compare --published qam2026 -o report/\n"
    assert shown.err.count("trqam2026") == 1
