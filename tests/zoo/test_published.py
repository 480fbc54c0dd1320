import json
import sys

from zoo import published


def test_list_tells_which_sets_have_single_runs(capsys):
    assert published.main(["list"]) == 0
    sets = {
        entry["set"]: entry
        for entry in json.loads(capsys.readouterr().out.splitlines()[-1])["sets"]
    }
    assert sets["qam2026"]["runs"] == "included"
    assert sets["trqam2026"]["runs"] == "none published"
    assert sets["trqam2026"]["suite"] == "qam50"


def test_a_person_sees_each_set_once_and_what_to_do_next(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert published.main(["list"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "next: zoo compare --published qam2026 -o report/\n"
    assert shown.err.count("trqam2026") == 1
