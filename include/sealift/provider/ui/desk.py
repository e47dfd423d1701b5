"""What routes share: open places, plans that were read, and figures worked out once for each state of the books."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from fastapi import HTTPException

from sealift.cos.errors import CosError
from sealift.exports import names
from sealift.exports.plan import read_plan
from sealift.exports.status.books import BooksNotOpen
from sealift.exports.status.planned import Expectation, PlanFigures
from sealift.exports.status.prices import Prices, read_prices
from sealift.exports.status.waves import Transactions, transactions_of
from sealift.provider.errors import ConnectionProblem
from sealift.provider.ui.places import DEFAULT

if TYPE_CHECKING:
    from sealift.exports.plan_models import Plan, WaveSlice
    from sealift.exports.status.snapshot import Snapshot
    from sealift.provider.ui.places import OpenPlace, Places

KEPT: Final = 16
"""So many things of one kind are kept: plans, figures of plans, charts, what an account said."""

ACCOUNT_TRUSTED_FOR: Final = 10.0
"""Seconds for which what the account said counts, whoever asks."""

FIGURES_TRUSTED_FOR: Final = 60.0
"""Seconds for which what is expected of a plan stays, whatever is read meanwhile."""

Kept = TypeVar("Kept")


class Desk:
    """Shared by all routes; any number of threads may ask.

    :param places: where exports are.
    :param prices: a file of prices; the one that comes with Sealift if None.
    :param classic_conn_id: the connection that the account is asked by.
    """

    def __init__(self, places: Places, *, prices: Path | None = None, classic_conn_id: str = "") -> None:
        self.places = places
        self.classic_conn_id = classic_conn_id
        self._prices = prices
        self._lock = threading.Lock()
        self._kept: defaultdict[str, OrderedDict[tuple[Hashable, ...], object]] = defaultdict(OrderedDict)
        self._making: dict[tuple[Hashable, ...], Future[object]] = {}

    def open(self, name: str) -> OpenPlace:
        """Give a place.

        :param name: its name.
        :returns: the place.
        :raises HTTPException: 404: the deployment has no such place.
        """
        try:
            return self.places.open(name)
        except KeyError:
            known = ", ".join(self.places.places)
            raise HTTPException(404, f"There is no place {name!r}. The deployment has: {known}.") from None

    def prices(self) -> Prices:
        """Read the prices, which somebody may have replaced.

        :raises SettingsError: they cannot be read.
        """
        stamp = self._prices.stat().st_mtime_ns if self._prices and self._prices.exists() else 0
        return self.once(("prices", stamp), lambda: read_prices(self._prices))

    def plan(self, place: OpenPlace, plan_id: str) -> Plan:
        """Read a plan. A plan is written once, so that one that was read stays as it is.

        :param place: where it is.
        :param plan_id: the plan.
        :returns: the plan.
        :raises HTTPException: 404: there is no such plan.
        :raises PlanError: it cannot be read.
        """
        prefix = place.books.prefix
        if names.parse_plan_place(plan_id) != (None, plan_id):
            raise HTTPException(404, f"{plan_id!r} is no plan's id.")
        key = names.plan_key(prefix=prefix, plan_id=plan_id)
        if all(one.plan_id != plan_id for one in place.books.snapshot().plans) and (
            place.books.cos.head(place.bucket, key) is None
        ):
            raise HTTPException(404, f"There is no plan {plan_id} in {place.bucket}/{prefix}.")
        return self.once(("plan", place.bucket, key), lambda: read_plan(place.books.cos, bucket=place.bucket, key=key))

    def find_plan(self, name: str, plan_id: str) -> tuple[OpenPlace, Plan]:
        """Read a plan, wherever it is.

        :param name: name of its place; empty where nobody knows, and the first place that has it is meant.
        :param plan_id: the plan.
        :returns: its place, and the plan.
        :raises HTTPException: 404: there is no such place, or no such plan.
        :raises CosError: it was not found, and a bucket cannot be read.
        :raises ConnectionProblem: it was not found, and a connection is missing or wrong.
        """
        if name or len(self.places.places) < 2:
            opened = self.open(name or DEFAULT)
            return opened, self.plan(opened, plan_id)
        trouble: Exception | None = None
        for one in self.places.places:
            try:
                opened = self.open(one)
                return opened, self.plan(opened, plan_id)
            except (CosError, ConnectionProblem, BooksNotOpen) as error:
                trouble = trouble or error
            except HTTPException as error:
                if error.status_code != 404:
                    raise
        if trouble is not None:
            raise trouble
        raise HTTPException(404, f"There is no plan {plan_id} in any of the places: {', '.join(self.places.places)}.")

    def figures(self, place: OpenPlace, plan: Plan, snapshot: Snapshot) -> PlanFigures:
        """Work out what follows from a plan.

        :param place: where the plan is.
        :param plan: the plan.
        :param snapshot: what is known of the place.
        """
        at = (place.bucket, place.books.prefix)
        # What manifests said of sizes changes little while they are read in the background; slots change it.
        state = (snapshot.slots[0].period if snapshot.slots else "", int(time.monotonic() / FIGURES_TRUSTED_FOR))
        return self.once(
            ("figures", *at, plan.plan_id, state),
            lambda: PlanFigures(plan, self.once(("expectation", *at, state), lambda: Expectation(snapshot))),
        )

    def transactions(self, place: OpenPlace, plan: Plan, number: int) -> Transactions:
        """Ask the account about a wave's servers, at most every ten seconds.

        :param place: where the plan is.
        :param plan: the plan.
        :param number: the wave's number.
        :returns: what the account says.
        :raises HTTPException: 404: the plan has no such wave.
        :raises sealift.classic.errors.ClassicError: the account cannot be asked.
        :raises ConnectionProblem: the connection is missing or wrong.
        """
        wave = wave_of(plan, number)

        def ask() -> Transactions:
            from sealift.provider.hooks.classic import ClassicHook

            classic = ClassicHook(self.classic_conn_id).client
            try:
                found = classic.templates_ending(names.template_suffix(wave.period))
                wanted = {item.template_name for item in wave.items}
                ids = [one.id for one in found if one.name in wanted]
                states = classic.template_states(ids) if ids else {}
                named = {one.name: states[one.id] for one in found if one.id in states and one.name}
                guests = classic.guest_states([item.guest_id for item in wave.items])
            finally:
                classic.close()
            return transactions_of(wave, guests, named, asked_at=datetime.now(UTC))

        window = int(time.monotonic() / ACCOUNT_TRUSTED_FOR)
        return self.once(("transactions", place.bucket, place.books.prefix, plan.plan_id, number, window), ask)

    def once(self, key: tuple[Hashable, ...], make: Callable[[], Kept]) -> Kept:
        """Give what was made before under the same key, or make it. Who asks meanwhile waits for the same.

        :param key: what it follows from; the first part names the kind, and each kind has room of its own.
        :param make: makes it.
        :returns: what was made.
        :raises Exception: what making it has raised; the next one who asks tries again.
        """
        with self._lock:
            kept = self._kept[str(key[0])]
            if key in kept:
                kept.move_to_end(key)
                return kept[key]  # type: ignore[return-value]
            making = self._making.get(key)
            if making is None:
                mine: Future[object] = Future()
                self._making[key] = mine
        if making is not None:
            return making.result()  # type: ignore[return-value]
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            mine.set_exception(error)
            raise
        with self._lock:
            kept[key] = made
            while len(kept) > KEPT:
                kept.popitem(last=False)
            del self._making[key]
        mine.set_result(made)
        return made


def wave_of(plan: Plan, number: int) -> WaveSlice:
    """Give a wave's slice of a plan.

    :param plan: the plan.
    :param number: the wave's number, from 0.
    :returns: the slice.
    :raises HTTPException: 404: the plan has no such wave.
    """
    if not 0 <= number < len(plan.waves):
        raise HTTPException(404, f"The plan {plan.plan_id} has {len(plan.waves)} waves, and no wave {number}.")
    return plan.slice(number)
