"""What a spell on the exchange itself does to it, at its beginning and at its end. Called by `labkit.paper.venue`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import MarkPrice
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.domain.symbol_rules import SymbolRules
from labkit.errors import RequestRejected
from labkit.paper.funding import next_funding_time
from labkit.paper.weather.faults import Where
from labkit.paper.weather.policy import Turn, Weather
from labkit.paper.weather.script import Spell

if TYPE_CHECKING:
    from labkit.paper.venue import Venue

LISTING_FAULTS = frozenset({"symbol-status", "delisting", "tick-size", "brackets-tightened"})


def carry_out(venue: Venue, turn: Turn, now_ms: int) -> None:
    """Let a spell begin, or put right what it did."""
    spell = turn.spell
    if spell.kind.where is not Where.VENUE:
        return
    if spell.fault in LISTING_FAULTS:
        if turn.begins:
            venue.weather.note(spell.fault, str(spell.parameter("symbol")))
        venue.list_anew()
    elif turn.begins:
        match spell.fault:
            case "listen-key-expiry":
                venue.expire_listen_key(now_ms)
            case "listen-key-loss":
                venue.close_listen_key()
            case "external-trade":
                _trade_by_another_hand(venue, spell, now_ms)
                return
            case _:
                pass
        if spell.fault != "venue-restart":
            venue.weather.note(spell.fault, "the exchange")


def rules_now(weather: Weather, rules: Mapping[str, SymbolRules]) -> dict[str, SymbolRules]:
    """The rules of every symbol under the spells that hold now."""
    now = dict(rules)
    for symbol, spell in _spells_on(weather, "symbol-status", now):
        now[symbol] = msgspec.structs.replace(now[symbol], status=str(spell.parameter("status")))
    for symbol, _ in _spells_on(weather, "delisting", now):
        now[symbol] = msgspec.structs.replace(now[symbol], status="CLOSE")
    for symbol, spell in _spells_on(weather, "tick-size", now):
        tick = Decimal(str(spell.parameter("tick_size")))
        # The grid begins at the lowest price, so that moves with it.
        now[symbol] = msgspec.structs.replace(now[symbol], tick_size=tick, min_price=max(tick, now[symbol].min_price))
    return now


def brackets_now(
    weather: Weather, brackets: Mapping[str, Sequence[LeverageBracket]]
) -> dict[str, Sequence[LeverageBracket]]:
    """The bracket tables under the spells that hold now: less leverage, more maintenance, continuous as before."""
    now = dict(brackets)
    for symbol, spell in _spells_on(weather, "brackets-tightened", now):
        factor = Decimal(str(spell.number("factor")))
        now[symbol] = tuple(
            msgspec.structs.replace(
                row,
                initial_leverage=max(1, int(row.initial_leverage / factor)),
                maintenance_margin_ratio=row.maintenance_margin_ratio * factor,
                maintenance_amount=row.maintenance_amount * factor,
            )
            for row in now[symbol]
        )
    return now


def funding_hours_now(weather: Weather, symbol: str, hours: int) -> int:
    """How many hours lie between two settlements of funding."""
    for _, spell in _spells_on(weather, "funding-interval", (symbol,)):
        hours = int(spell.number("hours"))
    return hours


def mark_now(weather: Weather, mark: MarkPrice) -> MarkPrice:
    """A mark price that announces the settlement that is really next."""
    for _, spell in _spells_on(weather, "funding-interval", (mark.symbol,)):
        next_ms = next_funding_time(mark.event_time_ms, int(spell.number("hours")))
        mark = msgspec.structs.replace(mark, next_funding_time_ms=next_ms)
    return mark


def unlisted_now(weather: Weather) -> frozenset[str]:
    """The symbols that are not listed any more."""
    return frozenset(str(spell.parameter("symbol")) for spell in weather.active("delisting"))


def _spells_on(weather: Weather, fault: str, symbols: Iterable[str]) -> list[tuple[str, Spell]]:
    return [
        (str(spell.parameter("symbol")), spell)
        for spell in weather.active(fault)
        if str(spell.parameter("symbol")) in symbols
    ]


def _trade_by_another_hand(venue: Venue, spell: Spell, now_ms: int) -> None:
    symbol = str(spell.parameter("symbol"))
    # Refused as anybody's order may be: then nobody traded.
    with suppress(RequestRejected):
        venue.desk.place(
            OrderIntent(
                client_order_id=f"web_{now_ms}",
                symbol=symbol,
                side=Side(str(spell.parameter("side"))),
                order_type=OrderType.MARKET,
                quantity=Decimal(str(spell.parameter("quantity"))),
            ),
            now_ms,
        )
        venue.weather.note(spell.fault, symbol)
