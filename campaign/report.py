"""What a campaign did, how often, and what was compared; `docs/campaign.md` is written from it.

What doesn't live here: doing it (`rows`).
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from campaign.truth import TruthFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from campaign.archive_record import Comparison
    from campaign.settings import Settings


@dataclass(slots=True)
class RowReport:
    """What one row of the campaign did."""

    number: int
    title: str
    done: Counter[str] = field(default_factory=Counter)
    """How often each thing was done or seen, in words."""
    comparisons: int = 0
    """How often an archive was held against the independent record, verified, and read by `deltalake`."""
    events: int = 0
    """Events compared, all comparisons together."""
    partitions: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    """Changed, or never given."""
    failure: str = ""
    """Why the row failed; empty if it didn't."""
    acknowledged: int = 0
    """Acknowledged events that were looked up in the independent record."""
    seconds: float = 0.0

    def told(self) -> list[tuple[str, int]]:
        """What was done and how often; what there is to say of several things together comes after them."""
        return sorted(self.done.items(), key=lambda item: item[0].startswith("…"))

    def note(self, comparison: Comparison) -> None:
        """Takes in a comparison.

        Raises:
            TruthFailed: something is lost, doubled, changed or strange.
        """
        self.comparisons += 1
        self.events += comparison.events
        self.partitions += comparison.partitions
        self.lost += len(comparison.lost)
        self.doubled += len(comparison.doubled)
        self.changed += len(comparison.changed) + len(comparison.strange)
        if not comparison.is_same:
            raise TruthFailed(f"the archive is not what the topic held: {comparison}")


_HEAD = """\
# The campaign

Written by `make campaign` from its last run; don't edit it by hand. `python -m campaign --help` names its parameters.

Each of the rows 1 to 9 does one kind of damage to ingests of a topic on a real broker. Afterwards the archive is held against the record of an independent
consumer (and that against the producers' acknowledgements): per partition a SHA-256 over each record's offset, key, value, headers and
timestamp. `event-archive verify` must prove the archive whole, and `deltalake`, a reader that we did not write, must list the same files and
count the same rows. A row is in order with 0 events lost, 0 doubled, 0 changed and nothing else amiss.

The rows 10 to 12 need no broker: each call by which an ingest, a compaction, a seal, a clean, a copy, a repair or the publishing of tables changes
a file is found with `strace`, and each time the process is stopped there, or the call fails, or the folder is made that a power cut would leave
there: what was not synced is lost, in whole or in part. All that was acknowledged must be there then; the same done again must lead to the
end, nothing may be left but what `clean` removes, and `deltalake` must list the same files. A comparison is one such point.

Row 13 needs no broker either: bits are flipped at random places of data files, log entries, segments, states, checkpoints and the pointer to them; files
are cut, lengthened, emptied, dropped, swapped and replaced; entries are forged with right checksums; the log grows old under another writer. `verify`
must name each damaged file and what is affected, or prove the change harmless; dropped newest entries must be seen with a head. A comparison is one such look.

Row 14 is about the tables: events come twice, late, damaged and in any order, and refreshes of all or some models come in between, some killed, some
thrown away, some after a change of code. The statements are those that dbt sends, played in memory. After a last refresh, every row of every table must be what
one rebuild gives. A comparison is one such history.

That the campaign can fail is shown by `make planted-bugs`: it breaks our own code in one place at a time and expects a row or a test to turn red.
"""


def written(rows: Sequence[RowReport], settings: Settings, *, when: str, kafka: str) -> str:
    """The report as Markdown."""
    lines = [
        _HEAD,
        (
            f"Last run: {when}, Kafka {kafka}, Python {platform.python_version()}, seed {settings.seed}, "
            f"{settings.kills} kills, {settings.rounds} rounds of each other fault, {sum(row.seconds for row in rows):.0f} s."
        ),
        "",
        "| row | what is done | result | comparisons | events compared | lost | doubled | changed | s |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row.number} | {row.title} | {'**failed**' if row.failure else 'in order'} | {row.comparisons} | {row.events:,} "
            f"| {row.lost} | {row.doubled} | {row.changed} | {row.seconds:.0f} |"
            for row in rows
        ),
        "",
    ]
    for row in rows:
        lines += [f"## {row.number}. {row.title}", ""]
        if row.failure:
            lines += [f"**Failed:** {row.failure}", ""]
        lines += [f"- {what}: {count:,}" for what, count in row.told()]
        lines += [
            f"- compared: {row.events:,} events in {row.partitions} partitions; {row.acknowledged:,} acknowledgements looked up",
            "",
        ]
    return "\n".join(lines)
