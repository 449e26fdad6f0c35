"""Bugs that change a record on its way, or take for a hole what is none."""

from __future__ import annotations

from campaign.mutations.bug import a_bug

RECORDS = "tests/kafka/test_ingest_records.py"
OUTAGES = "tests/kafka/test_ingest_outages.py"
SECURED = "tests/kafka/test_ingest_secured.py"

_KAFKA = "event_archive/sources/kafka"

EXACT_RECORDS = (
    a_bug(
        "headers dropped",
        f"{_KAFKA}/records.py",
        "    if not any(headers):\n",
        "    if True:\n",
        f"{RECORDS}::test_keys_values_headers_and_timestamps_are_archived_exactly",
    ),
    a_bug(
        "a header that comes twice is kept once",
        f"{_KAFKA}/records.py",
        "    lists = [item or [] for item in headers]\n",
        "    lists = [list(dict(item or ()).items()) for item in headers]\n",
        f"{RECORDS}::test_keys_values_headers_and_timestamps_are_archived_exactly",
    ),
    a_bug(
        "null keys and tombstones made empty",
        f"{_KAFKA}/records.py",
        '        validity = pa.py_buffer(np.packbits(is_given, bitorder="little"))\n        nulls = len(values) - int(is_given.sum())\n',
        "",
        f"{RECORDS}::test_keys_values_headers_and_timestamps_are_archived_exactly",
    ),
    a_bug(
        "empty keys and values made null",
        f"{_KAFKA}/records.py",
        "is_given = np.fromiter((value is not None for value in values), np.bool_, len(values))",
        "is_given = np.fromiter((bool(value) for value in values), np.bool_, len(values))",
        f"{RECORDS}::test_keys_values_headers_and_timestamps_are_archived_exactly",
    ),
    a_bug(
        "a timestamp of -1 made null",
        f"{_KAFKA}/records.py",
        "    has_type = kinds > 0\n",
        "    has_type = (kinds > 0) & (milliseconds != _NO_TIMESTAMP_MS)\n",
        f"{RECORDS}::test_keys_values_headers_and_timestamps_are_archived_exactly",
    ),
    a_bug(
        "aborted events archived",
        f"{_KAFKA}/reading.py",
        "isolation_level=source.isolation,",
        'isolation_level="read_uncommitted",',
        f"{RECORDS}::test_aborted_events_and_markers_are_known_holes",
    ),
    a_bug(
        "the end of a partition is not heard",
        f"{_KAFKA}/batches.py",
        "            self.positions[partition] = max(self.positions[partition], end)\n",
        "            pass\n",
        f"{RECORDS}::test_aborted_events_and_markers_are_known_holes",
        "-o",
        "timeout=60",
    ),
    a_bug(
        "the end of a partition is taken one too far",
        f"{_KAFKA}/batches.py",
        "max(self.positions[partition], end)\n",
        "max(self.positions[partition], end + 1)\n",
        f"{RECORDS}::test_an_ingest_goes_on_where_the_archive_ends",
    ),
    a_bug(
        "a record that the broker damaged is taken for a hole",
        f"{_KAFKA}/reading.py",
        "        if partition is not None and partition >= 0 and not error.retriable():\n",
        "        if False:\n",
        f"{OUTAGES}::test_a_record_that_is_damaged_at_the_broker_is_no_hole",
    ),
    a_bug(
        "checksums are not checked",
        f"{_KAFKA}/reading.py",
        "check_crcs=True,",
        "check_crcs=False,",
        f"{OUTAGES}::test_a_record_that_is_damaged_at_the_broker_is_no_hole",
    ),
    a_bug(
        "the value of a property is shown in an error",
        f"{_KAFKA}/connection.py",
        '                text = text.replace(plain, "***")\n',
        "                pass\n",
        f"{SECURED}::test_a_value_that_the_client_refuses_is_not_shown",
    ),
)
