"""What the venue answers about its market: rules, candles, book, marks, funding, open interest, trades.

Open to everyone, no key. Called by `rest_routes`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from labkit.domain.market_events import INTERVAL_MS
from labkit.paper.market_board import SymbolBoard
from labkit.paper.open_interest import PERIODS_MS, open_interest, open_interest_history
from labkit.paper.order_desk import refused
from labkit.paper.request_parameters import Parameters, one_or_all, page
from labkit.paper.weather.turns import funding_hours_now
from labkit.wire.rest_market import (
    DepthSnapshot,
    ExchangeInfo,
    FundingInfo,
    FundingRate,
    PremiumIndex,
    RateLimit,
    TickerPrice,
    encode_agg_trades,
    encode_depth_snapshot,
    encode_exchange_info,
    encode_funding_info,
    encode_funding_rate,
    encode_klines,
    encode_open_interest,
    encode_open_interest_history,
    encode_premium_index,
    encode_ticker_24hr,
    encode_ticker_book,
    encode_ticker_price,
    encode_trades,
)

if TYPE_CHECKING:
    from labkit.paper.venue import Venue

RATE_LIMITS = (
    RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 2400),
    RateLimit("ORDERS", "MINUTE", 1, 1200),
    RateLimit("ORDERS", "SECOND", 10, 300),
)
FUNDING_CAP_SHARE = Decimal("0.75")
"""Cap of the funding rate as a share of the first bracket's maintenance margin ratio."""
INTEREST_RATE = Decimal("0.0001")
DEPTH_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1000})


class MarketAnswers:
    """The market of one venue, as it is told on HTTP."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def _boards(self, symbol: str | None) -> list[SymbolBoard]:
        boards = self._venue.boards
        return [boards[symbol]] if symbol is not None else list(boards.values())

    def exchange_info(self, parameters: Parameters, now_ms: int) -> bytes:
        listed = {s: rules for s, rules in self._venue.desk.rules.items() if s not in self._venue.unlisted}
        return encode_exchange_info(ExchangeInfo(now_ms, RATE_LIMITS, listed))

    def depth(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        limit = parameters.limit(500, 1000)
        if limit not in DEPTH_LIMITS:
            raise refused(-4021, f"{limit} is not valid depth limit.")
        update_id, bids, asks = board.depth(limit)
        return encode_depth_snapshot(DepthSnapshot(update_id, bids, asks, now_ms, now_ms))

    def klines(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        interval = parameters.text("interval")
        if interval not in INTERVAL_MS:
            raise refused(-1120, "Invalid interval.")
        start_ms, end_ms = parameters.window()
        limit = parameters.limit(500, 1500)
        return encode_klines(board.bars(interval, start_ms=start_ms, end_ms=end_ms, limit=limit, now_ms=now_ms))

    def premium_index(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [
            PremiumIndex(
                symbol=board.symbol,
                mark_price=board.mark.mark_price,
                index_price=board.mark.index_price,
                estimated_settle_price=board.mark.index_price,
                funding_rate=board.mark.funding_rate,
                interest_rate=INTEREST_RATE,
                next_funding_time_ms=board.mark.next_funding_time_ms,
                time_ms=board.mark.event_time_ms,
            )
            for board in self._boards(symbol)
            if board.mark is not None
        ]
        return encode_premium_index(one_or_all(symbol, rows))

    def ticker_24hr(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [day for board in self._boards(symbol) if (day := board.day(now_ms)) is not None]
        return encode_ticker_24hr(one_or_all(symbol, rows))

    def ticker_price(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [
            TickerPrice(board.symbol, price, now_ms)
            for board in self._boards(symbol)
            if (price := board.last_price) is not None
        ]
        return encode_ticker_price(one_or_all(symbol, rows))

    def ticker_book(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        return encode_ticker_book(
            one_or_all(symbol, [board.quote for board in self._boards(symbol) if board.quote is not None])
        )

    def funding_rate(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [
            FundingRate(
                symbol=settled.symbol,
                funding_time_ms=settled.funding_time_ms,
                funding_rate=settled.funding_rate,
                mark_price=settled.mark_price,
            )
            for board in self._boards(symbol)
            for settled in board.funding
        ]
        rows.sort(key=lambda row: row.funding_time_ms)
        return encode_funding_rate(page(rows, parameters, 100, lambda row: row.funding_time_ms))

    def funding_info(self, parameters: Parameters, now_ms: int) -> bytes:
        rows: list[FundingInfo] = []
        for symbol, brackets in self._venue.desk.brackets.items():
            cap = brackets[0].maintenance_margin_ratio * FUNDING_CAP_SHARE
            hours = funding_hours_now(self._venue.weather, symbol, self._venue.source.funding_interval_hours(symbol))
            rows.append(FundingInfo(symbol=symbol, rate_cap=cap, rate_floor=-cap, interval_hours=hours))
        return encode_funding_info(rows)

    def open_interest(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        rules = self._venue.desk.rules[symbol]
        return encode_open_interest(open_interest(self._venue.boards[symbol], rules, now_ms))

    def open_interest_history(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        period_ms = PERIODS_MS.get(parameters.text("period"))
        if period_ms is None:
            raise refused(-1130, "Data sent for parameter 'period' is not valid.")
        start_ms, end_ms = parameters.window()
        rows = open_interest_history(
            self._venue.boards[symbol],
            self._venue.desk.rules[symbol],
            period_ms,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=parameters.limit(30, 500),
            now_ms=now_ms,
        )
        return encode_open_interest_history(rows)

    def trades(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        return encode_trades(list(board.trades)[-parameters.limit(500, 1000) :])

    def agg_trades(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        from_id = parameters.integer("fromId") or 0
        trades = [trade for trade in board.trades if trade.trade_id >= from_id]
        return encode_agg_trades(page(trades, parameters, 500, lambda trade: trade.trade_time_ms))
