"""The inspector's own end: what the page asks for happens to the position, and the page is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pandas as pd
import pytest

from labkit.domain import events as ev
from labkit.domain.position_detail import PositionDetail, WhatIf
from labkit.domain.snapshot import Snapshot, SymbolRow
from labkit.engine.position_details import position_detail, what_if
from labkit.engine.snapshots import snapshot_of_past
from labkit.errors import LocalProtocolError, RateLimited
from labkit.widgets.position_inspector import PositionInspector
from tests.engine.test_engine_apply import NOW, Desk, decision, quote

pytestmark = pytest.mark.usefixtures("noted_comms")

D = Decimal


class DeskLab:
    """The engine of a desk, looked at as a lab is: a long of 39.92 on BTCUSDT, stop 99.3, target 101.3."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.desk.fill(self.desk.decide(decision())[0], "100.3")
        self.closed: list[tuple[str, Decimal | None]] = []
        self.candles_asked = 0
        self.silent = False

    def snapshot(self) -> Snapshot:
        quoted = SymbolRow(symbol="BTCUSDT", bid_price=D("100.0"), ask_price=D("100.2"), age_ms=0)
        return msgspec.structs.replace(snapshot_of_past(self.desk.engine, NOW), symbols=(quoted,))

    def position(self, symbol: str) -> PositionDetail:
        return position_detail(self.desk.engine, symbol, {"BTCUSDT": quote()}, {})

    def what_if(self, percent: Decimal) -> WhatIf:
        return what_if(self.desk.engine, {}, percent / 100, leverage=5)

    def candles(self, symbol: str, interval: str, count: int) -> pd.DataFrame:
        self.candles_asked += 1
        if self.silent:
            raise RateLimited("asked too much", retry_after_ms=1_000)
        index = pd.to_datetime([NOW - 120_000, NOW - 60_000], unit="ms", utc=True)
        return pd.DataFrame({name: [100.0, 101.0] for name in ("open", "high", "low", "close")}, index=index)

    def move_exits(self, symbol: str, *, stop_price: Any = None, target_price: Any = None) -> None:
        if stop_price is not None and stop_price >= 100:
            raise LocalProtocolError(f"stop {stop_price} of a long on {symbol} lies on the wrong side of 100.0")
        self.desk.engine.apply(
            ev.ExitsChanged(time_ms=NOW, symbol=symbol, stop_price=stop_price, target_price=target_price)
        )

    def close_position(self, symbol: str, quantity: Decimal | None = None) -> None:
        self.closed.append((symbol, quantity))

    def pause_entries(self, reason: str) -> None: ...

    def resume_entries(self) -> None: ...


@pytest.fixture
def desk_lab() -> DeskLab:
    return DeskLab()


@pytest.fixture
def inspector(desk_lab: DeskLab) -> Iterator[Any]:
    widget = PositionInspector(desk_lab)
    yield widget
    widget.close()


def until(widget: Any, condition: Any) -> Any:
    while True:
        widget.comm.news.clear()
        if found := condition():
            return found
        assert widget.comm.news.wait(10), "the widget has fallen silent"


def ask(widget: Any, **content: Any) -> str:
    """What the page is answered."""
    widget.comm.sent.clear()
    widget.comm.say({"kind": "wish", "request": "1", **content})

    def answers() -> list[str]:
        said = [note["data"]["content"] for note in widget.comm.sent if (note["data"] or {}).get("method") == "custom"]
        return [message for message in said if message["kind"] == "answer"]

    error: str = until(widget, answers)[0]["error"]
    return error


def shown(widget: Any) -> dict[str, Any]:
    """The whole view as the page would be given it now."""
    before = widget.frame["sequence"]
    widget.comm.say({"kind": "resync"})
    view: dict[str, Any] = until(widget, lambda: widget.frame["sequence"] > before and widget.frame["view"])
    return view


def test_nothing_is_shown_in_detail_until_a_row_is_chosen(inspector: Any, desk_lab: DeskLab) -> None:
    assert (inspector.frame["view"]["edit"], inspector.frame["view"]["levels"]) == (None, ())
    assert desk_lab.candles_asked == 0


def test_a_chosen_position_is_shown_with_its_levels_and_receipt(inspector: Any) -> None:
    assert ask(inspector, wish="choose", symbol="BTCUSDT") == ""
    view = shown(inspector)
    assert view["chosen"] == "BTCUSDT"
    assert {level["key"] for level in view["levels"]} == {"entry", "stop", "target"}
    assert view["receipt"]["verdict"] == "Went long: the edge is worth its costs"


def test_the_choice_is_there_for_a_page_that_opens_later(inspector: Any) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    shown(inspector)
    assert inspector.frame["view"]["edit"]["stop"] == "99.3"


def test_candles_are_asked_for_once_a_minute_of_the_market(inspector: Any, desk_lab: DeskLab) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    candles = until(inspector, lambda: shown(inspector)["candles"])
    assert candles[0] == (NOW - 120_000, 100.0, 100.0, 100.0, 100.0)
    for _ in range(3):
        shown(inspector)
    assert desk_lab.candles_asked == 1


def test_an_exchange_without_candles_leaves_the_rest_of_the_detail(inspector: Any, desk_lab: DeskLab) -> None:
    desk_lab.silent = True
    ask(inspector, wish="choose", symbol="BTCUSDT")
    view = shown(inspector)
    assert (view["candles"], view["edit"]["stop"]) == ((), "99.3")


def test_a_stop_is_moved_and_the_move_undone(inspector: Any, desk_lab: DeskLab) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    assert ask(inspector, wish="move_exits", symbol="BTCUSDT", stop="98.5") == ""
    assert desk_lab.position("BTCUSDT").row.stop_price == D("98.5")
    assert shown(inspector)["edit"]["undo"] == "Undo: stop back to 99.3"
    assert ask(inspector, wish="undo_move", symbol="BTCUSDT") == ""
    assert desk_lab.position("BTCUSDT").row.stop_price == D("99.3")
    assert shown(inspector)["edit"]["undo"] == ""


def test_a_refused_move_is_told_in_words_and_leaves_nothing_to_undo(inspector: Any) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    error = ask(inspector, wish="move_exits", symbol="BTCUSDT", stop="100.5")
    assert error == "stop 100.5 of a long on BTCUSDT lies on the wrong side of 100.0"
    assert shown(inspector)["edit"]["undo"] == ""
    assert "to undo" in ask(inspector, wish="undo_move", symbol="BTCUSDT")


def test_a_price_may_be_typed_with_its_thousands_set_apart(inspector: Any, desk_lab: DeskLab) -> None:
    assert ask(inspector, wish="move_exits", symbol="BTCUSDT", target="1,101.5") == ""
    assert desk_lab.position("BTCUSDT").row.target_price == D("1101.5")


def test_a_price_that_is_no_number_is_told(inspector: Any) -> None:
    assert ask(inspector, wish="move_exits", symbol="BTCUSDT", stop="abc") == "stop: 'abc' is not a number"


@pytest.mark.parametrize(
    ("content", "quantity"),
    [
        pytest.param({}, None, id="the close button of its row"),
        pytest.param({"percent": 25}, D("9.980"), id="a quarter"),
        pytest.param({"percent": 100}, None, id="all of it"),
        pytest.param({"quantity": "1.5"}, D("1.5"), id="a quantity"),
    ],
)
def test_a_part_asked_for_is_the_part_that_is_closed(
    inspector: Any, desk_lab: DeskLab, content: dict[str, Any], quantity: Decimal | None
) -> None:
    assert ask(inspector, wish="close", symbol="BTCUSDT", **content) == ""
    assert desk_lab.closed == [("BTCUSDT", quantity)]


def test_a_rehearsal_goes_the_way_the_page_asked(inspector: Any) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    assert shown(inspector)["rehearsal"]["percent"] == -7.0
    assert ask(inspector, wish="rehearse", percent=12.5) == ""
    assert shown(inspector)["rehearsal"]["question"] == "What if every price rose by 12.5 % in one second?"


def test_a_rehearsal_that_cannot_be_keeps_the_one_before(inspector: Any) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    assert "above -100" in ask(inspector, wish="rehearse", percent=-100)
    assert shown(inspector)["rehearsal"]["percent"] == -7.0


def test_a_position_that_was_closed_meanwhile_says_how_it_ended(inspector: Any, desk_lab: DeskLab) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    until(inspector, lambda: shown(inspector)["candles"])
    (closing,) = desk_lab.desk.engine.apply(ev.CloseRequested(time_ms=NOW, symbol="BTCUSDT"))
    desk_lab.desk.fill(closing, "100.7")
    view = shown(inspector)
    assert view["edit"] is None
    assert view["gone"] == "BTCUSDT: the long was closed at 00:01:00 UTC, closed by hand: +11.96 USDT net."


def test_the_watcher_lives_on_when_a_detail_comes_and_goes(inspector: Any, desk_lab: DeskLab) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    until(inspector, lambda: shown(inspector)["candles"])
    ask(inspector, wish="choose", symbol="")
    assert shown(inspector)["candles"] == ()
    ask(inspector, wish="choose", symbol="BTCUSDT")
    assert shown(inspector)["edit"] is not None


def test_closing_leaves_no_thread_behind(desk_lab: DeskLab) -> None:
    before = set(threading.enumerate())
    widget: Any = PositionInspector(desk_lab)
    ask(widget, wish="choose", symbol="BTCUSDT")
    until(widget, lambda: shown(widget)["candles"])
    widget.close()
    assert {thread.name for thread in set(threading.enumerate()) - before} <= {"labkit widget wish"}


def test_whoever_cannot_run_widgets_sees_the_chosen_detail(inspector: Any) -> None:
    ask(inspector, wish="choose", symbol="BTCUSDT")
    page = inspector._repr_mimebundle_()[0]["text/html"]
    assert "Where the result comes from" in page
    assert "Went long" in page
    assert "<script" not in page
