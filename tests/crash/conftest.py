"""How thorough the tests of this folder are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

POINTS = 6


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds an option, which is only known where the tests of this folder are asked for by name."""
    parser.addoption(
        "--crash-points",
        type=int,
        default=POINTS,
        help="points of each operation and fault, spread evenly; 0 for all",
    )
