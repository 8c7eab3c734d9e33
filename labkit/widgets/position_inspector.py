"""PositionInspector: the open positions, and of one of them everything: chart, receipt, result, exits, a rehearsal.

What the page shows of the chosen position is asked of the lab at every look; its candles once a market minute, on a
thread of their own. Every button and handle calls the method of `Lab` that a cell would call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from labkit.domain.clock import MINUTE_MS
from labkit.domain.position_detail import PositionDetail, WhatIf
from labkit.domain.snapshot import Snapshot
from labkit.errors import ConfigError, LabkitError
from labkit.widgets.page_widget import browser_code, style_sheets
from labkit.widgets.position_detail_view import Candle, Move, part_of
from labkit.widgets.position_view import NOBODY, Chosen, PositionsView, positions_html, positions_view
from labkit.widgets.snapshot_widget import SnapshotWidget
from labkit.widgets.view_parts import LabLike, clock_of

if TYPE_CHECKING:
    import pandas as pd

CANDLES_SHOWN = 90
CANDLES_REST_MS = 1_000
"""Wall milliseconds between two requests for candles, however fast the market runs."""
FIRST_REHEARSAL = Decimal(-7)


class LabWithPositions(LabLike, Protocol):
    """What the inspector needs of a lab."""

    def position(self, symbol: str) -> PositionDetail: ...

    def what_if(self, percent: Decimal) -> WhatIf: ...

    def candles(self, symbol: str, interval: str, count: int) -> pd.DataFrame: ...

    def move_exits(
        self, symbol: str, *, stop_price: Decimal | None = None, target_price: Decimal | None = None
    ) -> None: ...


class PositionInspector(SnapshotWidget):
    """Every open position; choosing one opens its detail, in every place the widget is shown.

    Closing takes two clicks within three seconds; what the lab refuses is said on the page.
    """

    _code = browser_code("feed.js", "position_chart.js", "position_detail.js", "position_inspector.js")
    _css = style_sheets("labkit.css", "position_inspector.css")
    _lab: LabWithPositions

    def __init__(self, lab: LabWithPositions, chosen: str = "") -> None:
        self._chosen = chosen
        self._percent = FIRST_REHEARSAL
        self._candles: tuple[str, int, tuple[Candle, ...]] = ("", 0, ())
        """Symbol, market minute and the candles known then; one value, because two threads meet here."""
        self._candles_asked_ms = 0
        self._fetching = False
        self._moves: dict[tuple[str, int], list[Move]] = {}
        """What each position's exits were before each move by hand, by symbol and time of opening."""
        self._one_move = threading.Lock()
        """Wishes arrive on threads of their own: a move and what it replaced are noted together."""
        super().__init__(lab)

    def _view(self, snapshot: Snapshot) -> PositionsView:
        return positions_view(snapshot, self._look_at_chosen(snapshot) if self._chosen else NOBODY)

    def _static_html(self, snapshot: Snapshot) -> str:
        return positions_html(self._view(snapshot), clock_of(snapshot))

    def _look_at_chosen(self, snapshot: Snapshot) -> Chosen:
        symbol = self._chosen
        try:
            detail, rehearsed = self._lab.position(symbol), self._lab.what_if(self._percent)
        except (LabkitError, TimeoutError, CancelledError, RuntimeError):
            # It was closed meanwhile, or the lab is just ending: what the snapshot tells is shown.
            return Chosen(symbol=symbol)
        self._refresh_candles(symbol, snapshot.time_ms // MINUTE_MS)
        candles_of, _, candles = self._candles
        moves = self._moves.get((symbol, detail.row.opened_ms))
        return Chosen(
            symbol=symbol,
            detail=detail,
            candles=candles if candles_of == symbol else (),
            move=moves[-1] if moves else None,
            rehearsed=rehearsed,
        )

    def _refresh_candles(self, symbol: str, minute: int) -> None:
        now_ms = self._clock.now_ms()
        rested = now_ms - self._candles_asked_ms >= CANDLES_REST_MS
        if self._fetching or self._candles[:2] == (symbol, minute) or not rested:
            return
        self._fetching, self._candles_asked_ms = True, now_ms
        threading.Thread(
            target=self._fetch_candles, args=(symbol, minute), name="labkit inspector candles", daemon=True
        ).start()

    def _fetch_candles(self, symbol: str, minute: int) -> None:
        try:
            frame = self._lab.candles(symbol, "1m", CANDLES_SHOWN)
            columns = [frame[name].tolist() for name in ("open", "high", "low", "close")]
            times = frame.index.as_unit("ms").asi8.tolist()
            self._candles = (symbol, minute, tuple(zip(times, *columns, strict=True)))
            self._wake.set()
        except (LabkitError, TimeoutError, CancelledError, RuntimeError):
            # The exchange is silent or was asked too much: the chart goes on with live prices and asks again.
            pass
        finally:
            self._fetching = False

    def _wish(self, content: dict[str, Any]) -> Callable[[], None]:
        match content:
            case {"wish": "choose", "symbol": str(symbol)}:
                return partial(self._choose, symbol)
            case {"wish": "close", "symbol": str(symbol), "percent": int(percent)}:
                return partial(self._close_part, symbol, percent)
            case {"wish": "close", "symbol": str(symbol), "quantity": str(quantity)}:
                return partial(self._close_quantity, symbol, quantity)
            case {"wish": "close", "symbol": str(symbol)}:
                return partial(self._lab.close_position, symbol)
            case {"wish": "move_exits", "symbol": str(symbol)}:
                return partial(self._move, symbol, content.get("stop"), content.get("target"))
            case {"wish": "undo_move", "symbol": str(symbol)}:
                return partial(self._undo, symbol)
            case {"wish": "rehearse", "percent": int(percent) | float(percent)}:
                return partial(self._rehearse, percent)
            case {"wish": "pause_entries"}:
                return partial(self._lab.pause_entries, "paused by hand in the position inspector")
            case {"wish": "resume_entries"}:
                return self._lab.resume_entries
            case _:
                return super()._wish(content)

    def _choose(self, symbol: str) -> None:
        self._chosen, self._candles_asked_ms = symbol, 0

    def _close_part(self, symbol: str, percent: int) -> None:
        if percent == 100:
            self._lab.close_position(symbol)
        else:
            detail = self._lab.position(symbol)
            self._lab.close_position(symbol, part_of(abs(detail.row.quantity), percent, detail.step_size))

    def _close_quantity(self, symbol: str, quantity: str) -> None:
        self._lab.close_position(symbol, _number("quantity", quantity))

    def _move(self, symbol: str, stop: str | None, target: str | None) -> None:
        stop_price = None if stop is None else _number("stop", stop)
        target_price = None if target is None else _number("target", target)
        with self._one_move:
            row = self._lab.position(symbol).row
            self._lab.move_exits(symbol, stop_price=stop_price, target_price=target_price)
            before = Move(
                None if stop_price is None else row.stop_price, None if target_price is None else row.target_price
            )
            self._moves.setdefault((symbol, row.opened_ms), []).append(before)

    def _undo(self, symbol: str) -> None:
        with self._one_move:
            moves = self._moves.get((symbol, self._lab.position(symbol).row.opened_ms))
            if not moves:
                raise ConfigError(f"no move of {symbol} by hand to undo")
            self._lab.move_exits(symbol, stop_price=moves[-1].stop_price, target_price=moves[-1].target_price)
            moves.pop()

    def _rehearse(self, percent: float) -> None:
        asked = Decimal(str(percent))
        self._lab.what_if(asked)
        self._percent = asked


def _number(name: str, text: str) -> Decimal:
    """A number as a person types it: thousands may be set apart by commas or spaces."""
    try:
        return Decimal(text.replace(",", "").replace(" ", ""))
    except InvalidOperation:
        raise ConfigError(f"{name}: {text!r} is not a number", field=name) from None
