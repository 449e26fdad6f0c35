"""What payloads say: which paths there are, of which types, since when; over archived events or a file of sample events.

What doesn't live here: models of dbt made from it (`event_archive.scaffold`), and how it is printed (`event_archive.cli`).
"""
