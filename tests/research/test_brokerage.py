"""What a bar does to a position: pessimistic where the bar is silent, exact where finer data speak."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from labkit.config import Config
from labkit.research.markets import Market
from labkit.research.simulation import Costs, Run, follow
from labkit.trader.exits import EXIT_REASONS
from tests.research.conftest import FIRST_MINUTE, bars_market, order_at, plain_config
from tests.trader.facts import rules_of

FREE = Costs(taker_fee=0.0, slippage=0.0, spread=0.0)
FLAT = (100.0, 100.0, 100.0, 100.0)
MINUTE_MS = 60_000


def trade_once(
    market: Market,
    side: int = 1,
    costs: Costs = FREE,
    config: Config | None = None,
    distance: float = 0.1,
    **more: object,
) -> Run:
    """Enter at the open of bar 1 with stop and target `distance` away."""
    orders = order_at(market, 0, side * 0.5)
    return follow(market, orders, np.full(orders.shape, distance), config or plain_config(), costs, **more)  # type: ignore[arg-type]


def ending(run: Run) -> tuple[str, float]:
    (trade,) = run.trades
    return EXIT_REASONS[trade["reason"]], pytest.approx(float(trade["exit_price"]))


@pytest.mark.parametrize(
    ("side", "bar", "expected"),
    [
        pytest.param(1, (100, 105, 89, 100), ("stop_loss", 90), id="a long is stopped at the stop, not at the low"),
        pytest.param(1, (100, 111, 95, 100), ("take_profit", 110), id="a long takes profit at the target"),
        pytest.param(-1, (100, 111, 95, 100), ("stop_loss", 110), id="a short is stopped at the stop"),
        pytest.param(-1, (100, 105, 89, 100), ("take_profit", 90), id="a short takes profit at the target"),
        pytest.param(1, (100, 111, 89, 100), ("stop_loss", 90), id="a long that could have met both met its stop"),
        pytest.param(-1, (100, 111, 89, 100), ("stop_loss", 110), id="a short that could have met both met its stop"),
        pytest.param(1, (80, 120, 79, 100), ("stop_loss", 80), id="a gap through the stop is paid at the open"),
        pytest.param(1, (115, 120, 79, 100), ("take_profit", 115), id="a gap through the target earns the open"),
        pytest.param(-1, (115, 120, 79, 100), ("stop_loss", 115), id="a gap against a short is paid at the open"),
    ],
)
def test_an_exit_inside_a_bar_is_the_unfavourable_one_the_bar_allows(
    side: int, bar: tuple[float, float, float, float], expected: tuple[str, float]
) -> None:
    assert ending(trade_once(bars_market(FLAT, FLAT, bar, FLAT), side)) == expected


def test_the_bar_of_the_entry_can_end_the_position() -> None:
    run = trade_once(bars_market(FLAT, (100, 101, 85, 99), FLAT))
    assert ending(run) == ("stop_loss", 90)
    assert run.trades["entry_ms"][0] == run.trades["exit_ms"][0] == (FIRST_MINUTE + 1) * MINUTE_MS


def test_time_runs_out_at_the_first_open_after_it() -> None:
    market = bars_market(*[FLAT] * 9, (100, 104, 99, 103), (102, 102, 102, 102), FLAT)
    run = trade_once(market, config=plain_config(horizon_minutes=9))
    assert ending(run) == ("max_holding", 102)
    assert run.trades["exit_ms"][0] - run.trades["entry_ms"][0] == 9 * MINUTE_MS


@pytest.mark.parametrize("side", [1, -1])
def test_the_trailing_stop_guards_the_best_price_of_earlier_bars_and_of_this_one(side: int) -> None:
    def mirrored(*bar: float) -> tuple[float, float, float, float]:
        open_, high, low, close = (100 + side * (price - 100) for price in bar)
        return open_, max(high, low), min(high, low), close

    config = plain_config(trailing_start_fraction=0.6, trailing_gap_fraction=0.4)
    rise = mirrored(100, 107, 100, 107)
    later = trade_once(bars_market(FLAT, FLAT, rise, mirrored(107, 107, 100, 101), FLAT), side, config=config)
    assert ending(later) == ("trailing_stop", 100 + side * 3)
    same = trade_once(bars_market(FLAT, FLAT, mirrored(100, 108, 100, 101), FLAT), side, config=config)
    assert ending(same) == ("trailing_stop", 100 + side * 4)
    unarmed = trade_once(bars_market(FLAT, FLAT, mirrored(100, 105.9, 100, 101), FLAT), side, config=config)
    assert len(unarmed.trades) == 0


def test_a_tightened_trailing_stop_is_met_before_the_stop_behind_it() -> None:
    config = plain_config(trailing_start_fraction=0.6, trailing_gap_fraction=0.4)
    market = bars_market(FLAT, FLAT, (100, 107, 100, 107), (107, 107, 80, 85), FLAT)
    assert ending(trade_once(market, config=config)) == ("trailing_stop", 103)


@pytest.mark.parametrize(("path", "expected"), [((111.0, 89.0), "take_profit"), ((89.0, 111.0), "stop_loss")])
def test_trades_inside_a_bar_say_which_level_came_first(path: tuple[float, ...], expected: str) -> None:
    times = (FIRST_MINUTE + 2) * MINUTE_MS + np.array([0, 20_000, 40_000])
    prices = np.repeat(np.array([100.0, *path])[:, None], 4, axis=1)
    market = bars_market(FLAT, FLAT, (100, 111, 89, 100), FLAT, finer={"A": (times, prices)})
    run = trade_once(market)
    assert EXIT_REASONS[run.trades["reason"][0]] == expected
    # A trade beyond the level is what the market order meets.
    assert run.trades["exit_price"][0] == path[0]
    assert run.trades["exit_ms"][0] == times[1]


def test_the_account_moves_by_price_fees_spread_and_slippage_to_the_last_digit() -> None:
    costs = Costs(taker_fee=0.001, slippage=0.002, spread=0.004)
    market = bars_market(FLAT, FLAT, (100, 125, 100, 125), FLAT)
    run = trade_once(market, costs=costs)
    entry, paid = 100 * 1.002 * 1.002, 100 * 1.002 * 1.002 * 1.1 * 0.998
    quantity = 0.5 * 10_000 / (100 * 1.002)
    profit = quantity * (paid - entry)
    fees = 0.001 * quantity * (entry + paid)
    assert run.trades["price_pnl"][0] == pytest.approx(profit)
    assert run.trades["commission"][0] == pytest.approx(fees)
    assert run.final_equity == pytest.approx(10_000 + profit - fees)
    assert run.days["equity"][-1] == run.final_equity


@pytest.mark.parametrize(("side", "sign"), [(1, -1.0), (-1, 1.0)])
def test_whoever_holds_at_the_settlement_pays_or_receives_funding_and_nobody_else(side: int, sign: float) -> None:
    settled = (np.array([(FIRST_MINUTE + 3) * MINUTE_MS]), np.array([0.01]))
    market = bars_market(*[FLAT] * 6, funding={"A": settled})
    assert trade_once(market, side).account["funding"][0] == pytest.approx(sign * 0.01 * 5_000)
    # Entered at that very open: not held at the settlement.
    late = bars_market(*[FLAT] * 6, funding={"A": (settled[0] - 2 * MINUTE_MS, settled[1])})
    assert trade_once(late, side).account["funding"][0] == 0.0
    # Settled some milliseconds late, as the exchange does: the same minute.
    delayed = bars_market(*[FLAT] * 6, funding={"A": (settled[0] + 12, settled[1])})
    assert trade_once(delayed, side).account["funding"][0] == pytest.approx(sign * 0.01 * 5_000)


def test_a_missing_bar_changes_nothing_and_the_next_open_is_a_gap() -> None:
    nothing = (np.nan,) * 4
    run = trade_once(bars_market(FLAT, FLAT, nothing, (80, 81, 79, 80)))
    assert ending(run) == ("stop_loss", 80)


def test_prices_and_quantities_lie_on_the_grid_of_the_symbol_where_it_is_given() -> None:
    rules = {"A": rules_of("A", tick="0.10", step="0.001", min_notional="100")}
    market = bars_market(FLAT, FLAT, (100, 100, 93.3, 95), FLAT)
    run = trade_once(market, distance=0.0512345, rules=rules)
    assert run.trades["exit_price"][0] == pytest.approx(94.9)
    assert run.trades["quantity"][0] == pytest.approx(50.0)
    small = trade_once(bars_market(FLAT, FLAT), rules={"A": rules_of("A", min_notional="6000")})
    assert small.account["entries"][0] == 0


def test_no_order_is_larger_than_the_caps_of_risk() -> None:
    config = plain_config()
    risk = type(config.risk)(max_order_notional=Decimal(1_000), max_daily_loss_fraction=1.0)
    capped = trade_once(bars_market(FLAT, FLAT, FLAT), config=Config(trader=config.trader, risk=risk), costs=FREE)
    assert capped.account["entries"][0] == 1
    assert capped.final_equity == 10_000
    moved = trade_once(bars_market(FLAT, FLAT, (100, 105, 100, 105)), config=Config(trader=config.trader, risk=risk))
    assert moved.final_equity == pytest.approx(10_000 + 1_000 * 0.05)
