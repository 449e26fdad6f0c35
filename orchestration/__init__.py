"""Dagster's view of the archive and the warehouse: assets, checks, jobs, schedules and sensors, one file per concept.

What lives here: when things run, what they record in the UI, and what a failed run says. What doesn't: any logic of the
archive or the warehouse (`event_archive`) and any SQL of the models (`dbt_project`).
"""
