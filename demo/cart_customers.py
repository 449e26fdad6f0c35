"""Customers of the shopping cart service: each fills a cart step by step, and buys it, gives it up or forgets it."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from demo.booking_decisions import rfc_3339
from demo.booking_service import to_json
from demo.cart_service import (
    Abandon,
    AddItem,
    Cart,
    ChangeQuantity,
    CheckOut,
    Command,
    Event,
    Open,
    RemoveItem,
    apply,
    decide,
)
from demo.history import DAY_US, HOUR_US, Clock, History
from demo.notes import Notes
from demo.outlet import Line

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from demo.delivery import Delivery
    from demo.truth import Truth

SERVERS = ("cart-east", "cart-west")
FIRST_SERVER_SHARE = 0.6

EVENTS_PER_CART = 5  # what comes of the shares below; decides how often a cart is taken
# What is done next with a cart, and how often.
STEPS = {"add": 0.50, "change": 0.12, "remove": 0.12, "check_out": 0.18, "abandon": 0.08}
STEPS_WHILE_EMPTY = {"add": 0.90, "abandon": 0.10}
FORGOTTEN = 0.03  # the share who never come back after a step
CUSTOMERS = 200_000
PRODUCTS = 2_000
MEAN_PAUSE_US = 4 * 60 * 1_000_000
MEAN_LONG_PAUSE_US = 20 * HOUR_US


class CartCustomers:
    """Plays a history of carts and hands the events to the delivery.

    Args:
        history: When it happens and how much.
        delivery: Brings the events away.
        truth: Is told how carts ended.
        rng: Decides what customers want.
        new_event_id: Where event ids come from.
    """

    def __init__(
        self,
        *,
        history: History,
        delivery: Delivery,
        truth: Truth,
        rng: random.Random,
        new_event_id: Callable[[], str],
    ) -> None:
        self._history = history
        self._delivery = delivery
        self._truth = truth
        self._rng = rng
        self._new_event_id = new_event_id
        self._clock = Clock(rng)
        self._notes = Notes(history.events, rng)
        self._prices = [rng.randint(99, 25_000) for _ in range(PRODUCTS)]
        self._version_2_share = 0.0
        self._taken = 0
        self._waiting: list[tuple[int, int, Cart]] = []  # next step, number of the cart, cart

    def play(self, progress: Callable[[int], object]) -> None:
        """Play the whole history: exactly its number of events.

        Args:
            progress: Is told the number of new events, hour by hour.
        """
        happened = 0
        for now_us, due in self._history.hours():
            self._version_2_share = (
                0.15 + 0.7 * due / self._history.events
            )  # the roll-out takes the whole history
            new = self._hour(now_us, due - happened)
            happened += new
            progress(new)
        while happened < self._history.events:  # the last hour's steps may not have been enough
            now_us += HOUR_US
            happened += self._hour(now_us, self._history.events - happened)
        for _, _, cart in sorted(self._waiting, key=lambda waiting: waiting[1]):
            if cart.status != "new":  # some are only about to be taken
                self._truth.cart_ended(cart)

    def _hour(self, now_us: int, count: int) -> int:
        """Let the steps of one hour happen, at most so many, and return how many they were."""
        arrivals = -(-count // EVENTS_PER_CART)
        if self._waiting and self._waiting[0][0] < now_us:  # the last hour left some behind: fewer new ones
            arrivals //= 2
        for at_us in sorted(now_us + int(self._rng.random() * HOUR_US) for _ in range(arrivals)):
            self._taken += 1
            customer_id = f"C{self._rng.randrange(1, CUSTOMERS):06d}"
            heapq.heappush(self._waiting, (at_us, self._taken, Cart(f"K{self._taken:09d}", customer_id)))
        steps = 0
        while steps < count and self._waiting and self._waiting[0][0] < now_us + HOUR_US:
            at_us, number, cart = heapq.heappop(self._waiting)
            self._step(max(at_us, now_us), number, cart)
            steps += 1
        return steps

    def _step(self, at_us: int, number: int, cart: Cart) -> None:
        rng = self._rng
        command = self._wish(cart, at_us)
        server = 0 if self._chance(FIRST_SERVER_SHARE) else 1
        schema_version = 2 if self._chance(self._version_2_share) else 1
        event: Event = {
            "event_id": self._new_event_id(),
            "event_type": None,  # keeps the place; `decide` fills it in
            "schema_version": schema_version,
            "occurred_at": rfc_3339(self._clock.read(at_us, server)),
            **decide(cart, command, schema_version),
        }
        note = self._notes.next()
        if note is not None:
            event["note"] = note
        line = Line(to_json(event).encode(), cart.cart_id.encode())
        self._delivery.accept(line, event["event_type"], at_us, server)
        cart = apply(cart, command)
        if cart.status != "open" or self._chance(FORGOTTEN):
            self._truth.cart_ended(cart)
            return
        pause_us = MEAN_PAUSE_US if self._chance(0.97) else MEAN_LONG_PAUSE_US
        heapq.heappush(self._waiting, (at_us + int(rng.expovariate(1 / pause_us)), number, cart))

    def _wish(self, cart: Cart, at_us: int) -> Command:
        rng = self._rng
        if cart.status == "new":
            return Open()
        steps = STEPS if cart.items else STEPS_WHILE_EMPTY
        (step,) = rng.choices(list(steps), weights=list(steps.values()))
        match step:
            case "add":
                return self._addition(at_us)
            case "change":
                return ChangeQuantity(rng.choice(list(cart.items)), rng.randint(1, 9))
            case "remove":
                return RemoveItem(rng.choice(list(cart.items)))
            case "check_out":
                return CheckOut()
            case _:
                return Abandon()

    def _addition(self, at_us: int) -> AddItem:
        # Few products sell most; prices change every day.
        product = int(PRODUCTS * self._rng.random() ** 2.5)
        price_cents = self._prices[product] * (100 + (at_us // DAY_US * 7 + product) % 11 - 5) // 100
        return AddItem(f"SKU-{product:04d}", self._rng.choice((1, 1, 1, 2, 2, 3, 12)), price_cents)

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share
