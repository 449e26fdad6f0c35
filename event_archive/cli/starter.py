"""What `event-archive init` writes.

What doesn't live here: what the keys mean to the program (`event_archive.config`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.config import CONFIG_FILE
from event_archive.durable import storage_errors
from event_archive.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
# Configuration of event-archive. Relative paths are relative to this file.

# Where the events are kept for ever: a folder with one Delta table per stream. Back it up; never edit it.
archive: data/archive

# Where the tables are published that are computed from the events. It may be deleted: a rebuild computes it again.
warehouse: data/warehouse
# keep_builds: 3                   # so many of its builds stay on disk; any other is computed again from its record
# publish: always                  # a build that would change history: always, if_equal (it waits), or ask
# compute: {threads: 2, memory_bytes: 4 GB, max_spill_bytes: 100 GB}   # how much of the machine a refresh may use

# One entry per stream. Names: a-z, 0-9 and _, beginning with a letter, at most 63 characters.
streams:
  events:
    description: One sentence on what these events say
    source:
      type: files                  # a landing folder, read recursively: .jsonl, .ndjson, .json, each also .gz and .zst
      path: data/landing/events
      format: json_lines           # a record a line; nothing is parsed on the way in
      # settle_seconds: 60         # a last line without a line end is taken when its file has been still for so long
      # max_record_bytes: 256 MB   # a longer line is a problem of its file
    # commit_bytes: 128 MB         # a commit is made when so many bytes of values have been read

# A stream from Kafka:
#  orders:
#    source:
#      type: kafka
#      brokers: localhost:9092      # or ${KAFKA_BROKERS}
#      topic: orders
#      # start_at: earliest         # of the first ingest: earliest, latest, 2026-01-31T00:00:00Z, or {0: 1200, 1: 0}
#      # isolation: read_committed  # or read_uncommitted
#      # properties:                # librdkafka's, for TLS and SASL; ${NAME} is the environment's
#      #   security.protocol: SASL_SSL
#      #   sasl.mechanism: SCRAM-SHA-512
#      #   sasl.username: archive
#      #   sasl.password: ${KAFKA_PASSWORD}
#    # lag_below: 100000             # Dagster's check lag_below
#    # ingest_when_lag_above: 5000   # Dagster's sensor for this stream
#    # gaps_known_until: 2026-01-31T09:30:00Z   # gaps found until then have been looked at
"""


def write_starter(folder: Path) -> list[Path]:
    """Writes a commented configuration into `folder` and makes the folders that it names.

    Returns:
        What was made, the configuration first.

    Raises:
        UsageError: there is a configuration already; it is left as it is.
        StorageError: the disk refused.
    """
    config = folder / CONFIG_FILE
    folders = [folder / "data" / name for name in ("archive", "warehouse", "landing/events")]
    with storage_errors(config):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with config.open("x", encoding="utf-8") as file:
                file.write(CONFIG)
        except FileExistsError:
            raise UsageError(f"{config}: is there already; it was left as it is.") from None
        for path in folders:
            path.mkdir(parents=True, exist_ok=True)
    return [config, *folders]
