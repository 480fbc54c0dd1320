from tests.zoo.runs.test_read import write_run
from zoo.report.tables.scores import differences_table
from zoo.runs.read import read_runs


def test_methods_of_one_label_have_a_table_of_what_differs(tmp_path):
    long = {"inverse_temperature": 99.0, "horizon_length": 5, "batch_size": 256, "tau": 0.005, "rho": 0.5}
    for k in range(2):
        for j in range(2):
            settings = {name: value + k for name, value in long.items()} | {"gamma": (0.5, 0.99)[j]}
            write_run(tmp_path / f"{k}{j}", settings=settings)
    write_run(tmp_path / "other", algo="fql")
    own = read_runs([tmp_path])
    table = differences_table(own, set(own.runs["method"]))
    assert [row[0].text for row in table.rows] == ["qam a", "qam b", "qam c", "qam d"]
    assert table.rows[0][1].text == (
        "batch_size 256; gamma 0.5; horizon_length 5; inverse_temperature 99.0; rho 0.5; tau 0.005"
    )
    assert {"method": "qam d", "field": "gamma", "value": "0.99"} in table.data
