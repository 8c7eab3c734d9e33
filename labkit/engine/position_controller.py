"""PositionController: guards open positions, every second and on every quote that could trigger an exit.

A long is judged at the bid, a short at the ask. Prices come from the WebSocket first; where that quote is missing or
stale, from REST. The rules themselves are pure (`labkit.trader.exits`) and applied inside `Engine.apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from labkit.domain import events as ev
from labkit.domain.clock import Clock
from labkit.domain.market_events import Quote
from labkit.domain.symbol_rules import is_multiple, why_no_price
from labkit.engine.engine import Engine
from labkit.errors import BreakerOpen, ExchangeError, LocalProtocolError, RemoteProtocolError, WouldExceedLimit
from labkit.exchange.binance_client import BinanceClient
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.trader.exits import closing_price, exit_reason


class PositionController:
    """The exits of all open positions.

    Args:
        binance_client: asked for a quote where the stream has none that may be used.
        websocket_monitor: the live prices.
    """

    def __init__(self, binance_client: BinanceClient, *, websocket_monitor: WebSocketMonitor) -> None:
        self.binance_client = binance_client
        self.websocket_monitor = websocket_monitor
        self._engine: Engine | None = None
        self._submit: Callable[[ev.Event], None] | None = None
        self._clock: Clock | None = None
        self.rest_quotes_used = 0

    def attach(self, engine: Engine, clock: Clock, submit: Callable[[ev.Event], None]) -> None:
        """Give the controller the engine whose positions it guards."""
        self._engine, self._clock, self._submit = engine, clock, submit

    def on_quote(self, quote: Quote) -> None:
        """Called for every quote: submits it at once if it triggers an exit. Costs a look-up when nothing is open."""
        engine = self._engine
        if engine is None or quote.symbol not in engine.trades:
            return
        assert self._clock is not None
        trade = engine.trades[quote.symbol]
        now_ms = self._clock.now_ms()
        if trade.plan is None or engine.closing(quote.symbol):
            return
        sign = engine.position(quote.symbol).sign
        if exit_reason(trade.plan, sign, quote, now_ms) and not self.websocket_monitor.why_stale(quote.symbol):
            self._send(ev.MonitorTicked(time_ms=now_ms, quotes={quote.symbol: quote}))

    async def tick(self) -> None:
        """The look of every second at all open positions."""
        engine, clock = self._attached()
        quotes: dict[str, Quote] = {}
        for symbol in list(engine.trades):
            quote = self.websocket_monitor.fresh_quote(symbol) or await self._rest_quote(symbol)
            if quote:
                quotes[symbol] = quote
        if quotes:
            self._send(ev.MonitorTicked(time_ms=clock.now_ms(), quotes=quotes))

    def close(self, symbol: str = "", quantity: Decimal | None = None, *, source: str = "user") -> None:
        """Close (part of) the position of `symbol`, or all positions where no symbol is named.

        Raises:
            LocalProtocolError: there is no such position, or no such part of it.
        """
        engine, clock = self._attached()
        if symbol and not engine.position(symbol).is_open:
            raise LocalProtocolError(f"no open position on {symbol}")
        if quantity is not None and quantity > (held := abs(engine.position(symbol).quantity)):
            raise LocalProtocolError(f"quantity {quantity} of {symbol} is more than the {held} that are held")
        if quantity is not None and (rules := engine.rules.get(symbol)) and not is_multiple(quantity, rules.step_size):
            raise LocalProtocolError(
                f"quantity {quantity} of {symbol} is not a multiple of {rules.step_size}, its smallest step"
            )
        self._send(ev.CloseRequested(time_ms=clock.now_ms(), symbol=symbol, quantity=quantity, source=source))

    def move_exits(self, symbol: str, *, stop_price: Decimal | None, target_price: Decimal | None) -> None:
        """Move stop or target of an open position; what is None stays.

        Exits are judged here and are no orders, so that any number would do; yet what can never trade is no price, and
        a plan that shows other figures than it acts on is none either.

        Raises:
            LocalProtocolError: no such position, one without exits, a price off the symbol's ticks, or one on the wrong
                side of the market.
        """
        engine, clock = self._attached()
        position = engine.position(symbol)
        if not position.is_open or symbol not in engine.trades:
            raise LocalProtocolError(f"no open position on {symbol}")
        if engine.trades[symbol].plan is None:
            raise LocalProtocolError(
                f"the position on {symbol} has no exits to move: no decision of this lab opened it; close it by hand"
            )
        if rules := engine.rules.get(symbol):
            for name, wanted in (("stop", stop_price), ("target", target_price)):
                if wanted is not None and (why := why_no_price(rules, wanted)):
                    raise LocalProtocolError(f"{name} {wanted} of {symbol} {why}")
        quote = self.websocket_monitor.get_quote(symbol)
        if quote is not None:
            price = closing_price(position.sign, quote)
            for name, wanted, direction in (("stop", stop_price, -1), ("target", target_price, 1)):
                if wanted is not None and (wanted - price) * position.sign * direction <= 0:
                    side = "long" if position.sign > 0 else "short"
                    raise LocalProtocolError(
                        f"{name} {wanted} of a {side} on {symbol} lies on the wrong side of {price}"
                    )
        self._send(
            ev.ExitsChanged(time_ms=clock.now_ms(), symbol=symbol, stop_price=stop_price, target_price=target_price)
        )

    async def _rest_quote(self, symbol: str) -> Quote | None:
        try:
            quote = await self.binance_client.ticker_book(symbol)
        except (ExchangeError, BreakerOpen, WouldExceedLimit, RemoteProtocolError):
            return None
        self.rest_quotes_used += 1
        return quote

    def _attached(self) -> tuple[Engine, Clock]:
        if self._engine is None or self._clock is None:
            raise LocalProtocolError(
                "this PositionController guards nothing yet: start the UnifiedScheduler that owns it"
            )
        return self._engine, self._clock

    def _send(self, event: ev.Event) -> None:
        assert self._submit is not None
        self._submit(event)
