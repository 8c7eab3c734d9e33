"""A market written by hand, and a way to ask a venue as a client would."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest

from labkit.config import PaperConfig
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.domain.symbol_rules import SymbolRules
from labkit.paper.listings import LISTED_BRACKETS, LISTED_RULES
from labkit.paper.market_source import SourceEvent
from labkit.paper.venue import Venue
from labkit.paper.venue_records import VenueJournal
from labkit.wire.endpoints import encode_query
from labkit.wire.signing import sign_hmac
from labkit.wire.transport import HttpRequest

D = Decimal

START_MS = 1_767_571_200_000
KEY, SECRET = "k" * 64, "s" * 64


class HandMadeMarket:
    """A `MarketSource` whose events are written down one by one. Prices of BTCUSDT unless told otherwise."""

    name = "hand made"
    disclosure = "Written by hand for a test."
    tells_bars = False
    end_ms: int | None = None

    def __init__(self, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")) -> None:
        self.symbols = symbols
        self.start_ms = START_MS
        self.written: list[SourceEvent] = []

    def rules(self) -> Mapping[str, SymbolRules]:
        return LISTED_RULES

    def brackets(self) -> Mapping[str, tuple[LeverageBracket, ...]]:
        return LISTED_BRACKETS

    def funding_interval_hours(self, symbol: str) -> int:
        return 8

    def history(self, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
        return []

    def events(self, from_ms: int) -> Iterator[SourceEvent]:
        ordered = sorted(self.written, key=lambda event: event.time_ms)
        return iter([event for event in ordered if event.time_ms >= from_ms])

    def quote(
        self, at_ms: int, bid: str, ask: str, size: str = "10", *, symbol: str = "BTCUSDT", frame: bytes = b""
    ) -> None:
        """`at_ms` counts from the market's start."""
        time_ms = self.start_ms + at_ms
        quote = Quote(symbol, D(bid), D(size), D(ask), D(size), 1_000 + len(self.written), time_ms)
        self.written.append(SourceEvent(time_ms, f"{symbol.lower()}@bookTicker", quote, frame))

    def mark(self, at_ms: int, price: str, *, symbol: str = "BTCUSDT", funding_at_ms: int = 28_800_000) -> None:
        time_ms = self.start_ms + at_ms
        mark = MarkPrice(symbol, D(price), D(price), D("0.0001"), self.start_ms + funding_at_ms, time_ms)
        self.written.append(SourceEvent(time_ms, f"{symbol.lower()}@markPrice@1s", mark))

    def trade(
        self, at_ms: int, price: str, quantity: str, *, buyer_is_maker: bool = False, symbol: str = "BTCUSDT"
    ) -> None:
        time_ms = self.start_ms + at_ms
        trade = Trade(symbol, len(self.written), D(price), D(quantity), buyer_is_maker, time_ms, time_ms)
        self.written.append(SourceEvent(time_ms, f"{symbol.lower()}@trade", trade))


class Counter:
    """A venue with a client at it; times count from the market's start."""

    def __init__(self, market: HandMadeMarket, *, journal: VenueJournal | None = None, **config: Any) -> None:
        self.market = market
        self.venue = Venue(market, PaperConfig(**config), api_key=KEY, api_secret=SECRET, journal=journal)

    def at(self, at_ms: int) -> int:
        return self.market.start_ms + at_ms

    def ask(
        self,
        method: str,
        path: str,
        at_ms: int = 0,
        *,
        key: str = KEY,
        secret: str | None = SECRET,
        timestamp: int | None = None,
        in_body: bool = False,
        **parameters: Any,
    ) -> tuple[int, Any]:
        """Send one request signed with `secret` (None: unsigned); status and decoded body."""
        now_ms = self.at(at_ms)
        told = {name: str(value) for name, value in parameters.items()}
        query = encode_query(told)
        if secret is not None:
            query = encode_query(told | {"timestamp": str(now_ms if timestamp is None else timestamp)})
            query += "&signature=" + sign_hmac(secret, query)
        answer = self.venue.handle(
            HttpRequest(
                method=method,
                path=path,
                query="" if in_body else query,
                body=query if in_body else "",
                headers={"x-mbx-apikey": key} if key else {},
            ),
            now_ms,
        )
        self.headers = answer.headers
        return answer.status, json.loads(answer.body)

    def get(self, path: str, at_ms: int = 0, **parameters: Any) -> Any:
        status, body = self.ask("GET", path, at_ms, **parameters)
        assert status == 200, body
        return body

    def order(self, at_ms: int, **parameters: Any) -> Any:
        told = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.100"} | parameters
        return self.ask("POST", "/fapi/v1/order", at_ms, **told)


@pytest.fixture
def market() -> HandMadeMarket:
    """Two symbols that quote and mark from the first moment on."""
    market = HandMadeMarket()
    market.quote(0, "90000.0", "90000.1")
    market.mark(0, "90000")
    market.quote(0, "3000.00", "3000.01", symbol="ETHUSDT")
    market.mark(0, "3000", symbol="ETHUSDT")
    return market


@pytest.fixture
def counter(market: HandMadeMarket) -> Counter:
    return Counter(market)


@pytest.fixture
def counter_of() -> type[Counter]:
    """To open a counter once the market is written."""
    return Counter
