"""Tables about own runs: what sets methods of one label apart."""

from __future__ import annotations

from collections.abc import Collection

from zoo.report.tables.entries import Entry, Table
from zoo.runs.naming import what_differs
from zoo.runs.protocol import shortened
from zoo.runs.read import RunTables


def differences_table(own: RunTables, methods: Collection[str]) -> Table:
    """Return where methods of one label differ, a row each; without rows where every label is one method."""
    found = what_differs(own.runs, methods)
    rows = [
        [Entry(name), Entry("; ".join(shortened(f"{field} {value}" for field, value in fields.items())))]
        for name, fields in found.items()
    ]
    data = [
        {"method": name, "field": field, "value": value}
        for name, fields in found.items()
        for field, value in fields.items()
    ]
    caption = (
        "What differs between methods of one label, on the environments that they share; several values, which differ "
        "between environments, are divided by a slash."
    )
    return Table("differences", "What differs", caption, ["method", "settings"], rows, data)
