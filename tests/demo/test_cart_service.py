"""What may happen to a cart, and what it costs afterwards."""

from __future__ import annotations

import pytest

from demo.cart_service import (
    Abandon,
    AddItem,
    Cart,
    CartRefused,
    ChangeQuantity,
    CheckOut,
    Command,
    Open,
    RemoveItem,
    apply,
    decide,
)

NEW = Cart("K1", "C1")


def after(*commands: Command) -> Cart:
    """Return the cart to which all this happened."""
    cart = NEW
    for command in commands:
        decide(cart, command, 2)
        cart = apply(cart, command)
    return cart


def test_a_product_added_again_costs_its_newest_price() -> None:
    """Quantities add up; the price is that of the last addition."""
    cart = after(Open(), AddItem("SKU-1", 2, 500), AddItem("SKU-2", 1, 100), AddItem("SKU-1", 1, 450))
    assert cart.items == {"SKU-1": (3, 450), "SKU-2": (1, 100)}
    assert cart.total_cents == 1_450
    assert cart.version == 4


def test_a_product_removed_and_added_begins_anew() -> None:
    """Nothing of its earlier quantity comes back."""
    cart = after(Open(), AddItem("SKU-1", 9, 500), RemoveItem("SKU-1"), AddItem("SKU-1", 1, 500))
    assert cart.items == {"SKU-1": (1, 500)}


def test_both_schema_versions_tell_the_same_amounts() -> None:
    """Dollars as a number, or whole cents."""
    cart = after(Open(), AddItem("SKU-1", 3, 1_999))
    assert decide(cart, CheckOut(), 1)["total"] == 59.97
    assert decide(cart, CheckOut(), 2)["total_cents"] == 5_997
    assert decide(cart, AddItem("SKU-1", 1, 1_999), 1)["unit_price"] == 19.99
    assert decide(cart, AddItem("SKU-1", 1, 1_999), 2)["unit_price_cents"] == 1_999


@pytest.mark.parametrize(
    ("done", "command"),
    [
        ([], AddItem("SKU-1", 1, 100)),
        ([Open()], Open()),
        ([Open()], CheckOut()),
        ([Open()], RemoveItem("SKU-1")),
        ([Open()], ChangeQuantity("SKU-1", 2)),
        ([Open()], AddItem("SKU-1", 0, 100)),
        ([Open(), AddItem("SKU-1", 1, 100)], ChangeQuantity("SKU-1", 0)),
        ([Open(), AddItem("SKU-1", 1, 100), CheckOut()], AddItem("SKU-1", 1, 100)),
        ([Open(), Abandon()], CheckOut()),
    ],
)
def test_a_command_that_does_not_fit_is_refused(done: list[Command], command: Command) -> None:
    """And there is no event of it."""
    with pytest.raises(CartRefused):
        decide(after(*done), command, 2)
