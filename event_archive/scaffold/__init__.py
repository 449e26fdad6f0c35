"""Writes what a new stream or a new mart needs: lines of the configuration, models of dbt with their descriptions and tests.

What doesn't live here: finding out what payloads say (`event_archive.schema`), and running dbt.
"""
