"""Replay: archived events written back, to files, as JSON lines, or to a Kafka topic.

    folder        the files of a stream of files again, byte for byte
    lines         JSON lines on stdout or in a folder: the payloads, or one object per event (json_events)
    topic         events into a Kafka topic, exactly once (target, progress, partitioning)
    check         a topic read back and held against the archive (digests)
    events        archived events in the order of the archive, from a position on
    selection     which of them are replayed

What doesn't live here: choosing what to replay for a table; models read the archive, not replayed events.
"""
