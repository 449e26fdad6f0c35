"""Heads: what is kept elsewhere of an archive, so that a cut-off end shows.

`head` says what a head is and whether an archive still contains it, `places` where the configuration has heads kept, `recorded` and `topic`
keep them. What doesn't live here: proof of everything below the head (`event_archive.verify`).
"""
