"""Landing folders of JSON-lines files as a source.

    landing   which files are there, without opening them
    positions how far each file is archived, folded from the commits
    reading   the bytes of one file beyond its position, checked against what was archived before
    lines     those bytes as columns
    batches   the three together: row groups and the claims that go with them

What doesn't live here: writing data files and commits (`event_archive.archive`).
"""
