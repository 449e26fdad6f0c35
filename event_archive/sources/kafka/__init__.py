"""Kafka topics as a source: exactly what was written, up to a position that the archive's own commits name."""
