"""A query over the archive and the published tables, from the configuration to printed rows.

What doesn't live here: what a query may do (`sql.sandbox`) and how rows are printed (`sql.output`).
"""
