"""The shopping cart service: what may happen to a cart, and what follows from it.

Pure: a cart is a value, `decide` makes the event of a command, `apply` the cart after it. Where carts are kept and who fills them isn't known here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Event = dict[str, Any]


class CartRefused(Exception):
    """The command doesn't fit the cart; nothing has happened to it."""


@dataclass(frozen=True, slots=True)
class Cart:
    """A cart after `version` events; `items` are quantity and price of one (in cents) by product."""

    cart_id: str
    customer_id: str
    status: str = "new"
    items: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    version: int = 0

    @property
    def total_cents(self) -> int:
        """What the cart costs."""
        return sum(quantity * price for quantity, price in self.items.values())


@dataclass(frozen=True, slots=True)
class Open:
    """Take a cart."""


@dataclass(frozen=True, slots=True)
class AddItem:
    """Put so many of a product into the cart, at today's price."""

    product_id: str
    quantity: int
    unit_price_cents: int


@dataclass(frozen=True, slots=True)
class ChangeQuantity:
    """Have so many of a product that is in the cart."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class RemoveItem:
    """Take a product out of the cart."""

    product_id: str


@dataclass(frozen=True, slots=True)
class CheckOut:
    """Buy what is in the cart."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give the cart up."""


Command = Open | AddItem | ChangeQuantity | RemoveItem | CheckOut | Abandon


def decide(cart: Cart, command: Command, schema_version: int) -> Event:
    """Return the event of a command: its type, `cart_version`, and the fields of the type, as this schema version writes them.

    Raises:
        CartRefused: The cart isn't open (or already is), the product isn't in it, or there is nothing to buy.
    """
    if cart.status != ("new" if isinstance(command, Open) else "open"):
        raise CartRefused(f"Cart {cart.cart_id} is {cart.status}.")
    event_type, fields = _outcome(cart, command, schema_version)
    return {"event_type": event_type, "cart_version": cart.version + 1, "cart_id": cart.cart_id, **fields}


def apply(cart: Cart, command: Command) -> Cart:
    """Return the cart after a command that `decide` let through."""
    items = dict(cart.items)
    status = cart.status
    match command:
        case Open():
            status = "open"
        case AddItem(product_id, quantity, price):
            had, _ = items.get(product_id, (0, 0))
            items[product_id] = (had + quantity, price)
        case ChangeQuantity(product_id, quantity):
            items[product_id] = (quantity, items[product_id][1])
        case RemoveItem(product_id):
            del items[product_id]
        case CheckOut():
            status = "checked_out"
        case Abandon():
            status = "abandoned"
    return replace(cart, status=status, items=items, version=cart.version + 1)


def _outcome(cart: Cart, command: Command, schema_version: int) -> tuple[str, Event]:
    match command:
        case Open():
            return "cart_opened", {"customer_id": cart.customer_id}
        case AddItem(product_id, quantity, price):
            if quantity < 1:
                raise CartRefused(f"{quantity} of {product_id} is no quantity.")
            amount = _amount("unit_price", price, schema_version)
            return "item_added", {"product_id": product_id, "quantity": quantity, **amount}
        case ChangeQuantity(product_id, quantity):
            _must_hold(cart, product_id)
            if quantity < 1:
                raise CartRefused(f"{quantity} of {product_id} is no quantity.")
            return "quantity_changed", {"product_id": product_id, "quantity": quantity}
        case RemoveItem(product_id):
            _must_hold(cart, product_id)
            return "item_removed", {"product_id": product_id}
        case CheckOut():
            if not cart.items:
                raise CartRefused(f"Cart {cart.cart_id} is empty.")
            return "cart_checked_out", _amount("total", cart.total_cents, schema_version)
        case Abandon():
            return "cart_abandoned", {}


def _amount(name: str, cents: int, schema_version: int) -> Event:
    """Write an amount as this version does: dollars as a number, or whole cents."""
    return {name: cents / 100} if schema_version == 1 else {f"{name}_cents": cents}


def _must_hold(cart: Cart, product_id: str) -> None:
    if product_id not in cart.items:
        raise CartRefused(f"{product_id} isn't in cart {cart.cart_id}.")
