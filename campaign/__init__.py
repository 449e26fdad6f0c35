"""The campaign: ingests under every fault we could think of on a real broker, and proof that nothing is lost or doubled.

`python -m campaign --help` runs it; `docs/campaign.md` is its report. What doesn't live here: tests of single functions
(`tests`), which run quick versions of the same rows too (`tests/kafka/test_campaign.py`).
"""
