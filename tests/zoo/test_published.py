import json

from zoo import published


def test_list_tells_which_sets_have_single_runs(capsys):
    assert published.main(["list"]) == 0
    sets = {entry["set"]: entry for entry in json.loads(capsys.readouterr().out.splitlines()[-1])["sets"]}
    assert sets["qam2026"]["runs"] == "included"
    assert sets["trqam2026"]["runs"] == "none published"
    assert sets["trqam2026"]["suite"] == "qam50"
