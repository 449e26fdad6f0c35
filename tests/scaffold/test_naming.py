"""Whatever a field is called, its column has a plain name of its own, and a field is only taken for the events' id if it can be it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.scaffold.naming import column_names, keywords
from event_archive.warehouse.kept_digests import RECORDS

if TYPE_CHECKING:
    from tests.scaffold.place import Place

ODD = [
    ("userName",),
    ("user_name",),
    ("user-name",),
    ("user", "name"),
    ("User Name",),
    ("Größe",),
    ("grosse",),
    ("温度",),
    ("名前",),
    ("from", "名前"),
    ("select",),
    ("SELECT",),
    ("123",),
    ("",),
    ("; drop table x",),
    ('"',),
    ("{{ x }}",),
    ("at",),
    ("at_utc_offset",),
    ("value",),
    ("payload",),
    ("commit_version",),
    ("change_version",),
    ("x" * 300,),
    ("x" * 301,),
]


def test_columns_have_plain_names_and_each_its_own() -> None:
    """Letters, digits and underscores; no word of SQL, none that the models use themselves; of equal ones all but one get a number."""
    names = column_names(ODD, {})
    assert len({*names.values()}) == len(ODD)
    for name in names.values():
        assert re.fullmatch("[a-z][a-z0-9_]{0,55}", name)
    assert not {*names.values()} & {*keywords(), "value", "payload", "commit_version", "change_version"}
    assert names["Größe",] == "grosse"
    assert names["from", "名前"] == "from_field"
    assert names["userName",] == "user_name"


@pytest.mark.parametrize("name", ["select", "order", *RECORDS])
def test_a_table_that_nobody_could_ask_for_is_refused(place: Place, name: str) -> None:
    """A word of SQL, or a table that each build has anyway."""
    done = place.run("scaffold", "mart", name, "--stream", "carts", "--key", "cart_id")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'{name}': no name of a table" in done.stderr


@pytest.mark.parametrize(
    ("events", "event_id"),
    [
        ([{"id": f"o{n // 2}", "state": n % 2} for n in range(100)], None),  # of orders, two events each
        ([{"id": f"o{n}"} for n in range(100)] + [{"id": "o7"}], "id"),
        ([{"eventID": n % 90, "at": n} for n in range(100)], "eventID"),
        ([{"Message-Id": f"{n}"} for n in range(100)], "Message-Id"),
        ([{"id": "session"} for n in range(100)], None),
    ],
)
def test_the_events_id_is_one_that_no_two_different_events_share(
    place: Place, events: list[dict[str, Any]], event_id: str | None
) -> None:
    """Taken for the events' id, that of an order would throw away all events of it but the first."""
    place.configure("things")
    place.archive("things", "1.jsonl", events)
    said = place.run("scaffold", "stream", "things").stdout
    assert (f"Redeliveries are told by {event_id}." if event_id else "No field is the events' id") in said
