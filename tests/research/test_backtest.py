"""backtest over recorded, made-up and given history, and what its result tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import labkit
from labkit.errors import ConfigError, LockBoxClosed
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake
from labkit.research.backtest import BacktestResult, backtest
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.trials import TrialLedger
from labkit.trader.exits import EXIT_REASONS
from labkit.trader.policies import Question

QUICK = {"horizon_minutes": 60, "decision_every_minutes": 15, "warm_up_minutes": 600, "cold_start_labels": 50}


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 841, days=20, symbols=2, b=0.15)


@pytest.fixture(scope="module")
def result(market: Market) -> BacktestResult:
    return backtest(data=market, trader=QUICK)


def frames_of(market: Market) -> dict[str, pd.DataFrame]:
    index = pd.to_datetime(market.minutes * 60_000, unit="ms", utc=True)
    names = ["open", "high", "low", "close", "volume", "taker_buy_volume"]
    return {symbol: pd.DataFrame(market.rows[:, s], index, names) for s, symbol in enumerate(market.symbols)}


def test_it_is_there_under_its_name_without_loading_anything() -> None:
    assert labkit.backtest is backtest


def test_equity_is_the_opening_balance_and_all_trades_and_funding_when_nothing_is_open(result: BacktestResult) -> None:
    open_fees = result.run.account["commission"][0] - result.trades["commission"].sum()
    still_open = result.run.account["entries"][0] - len(result.trades)
    assert len(result.trades) > 100
    flows = 10_000 + result.trades["net_pnl"].sum() - open_fees
    assert result.run.account["cash"][0] == pytest.approx(flows)
    assert still_open <= 2


def test_every_decision_is_counted_once_by_what_it_came_to(result: BacktestResult) -> None:
    assert result.outcomes.sum() == len(result.decisions) == 20 * 1440 // 15 * 2
    assert dict(result.decisions["outcome"].value_counts()) == {k: v for k, v in result.outcomes.items() if v}
    assert result.outcomes["entered"] >= len(result.trades) > 0


def test_daily_returns_compound_to_the_return_of_the_summary(result: BacktestResult) -> None:
    assert np.prod(1 + result.daily_returns) - 1 == pytest.approx(result.summary["return"])
    assert len(result.daily) == 20
    assert result.daily["trades"].sum() == len(result.trades)
    assert result.daily["labels"].sum() == len(result.run.answers)


def test_what_was_said_of_a_real_edge_came_true(result: BacktestResult) -> None:
    table = result.calibration
    assert table["labels"].sum() == len(result.run.answers)
    assert table["said"].is_monotonic_increasing
    outer = table.iloc[[0, -1]]
    assert (abs(outer["came_true"] - outer["said"]) < 4 * outer["error"] + 0.02).all()
    assert table["came_true"].iloc[-1] - table["came_true"].iloc[0] > 0.2


def test_a_picture_says_in_words_what_it_shows(result: BacktestResult) -> None:
    png, words = result.plot()._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert f"{result.summary['trades']:.0f} trades" in words["alt"]


def test_the_table_of_a_notebook_names_every_figure(result: BacktestResult) -> None:
    html = result._repr_html_()
    assert "Sharpe" in html
    assert f"{result.summary['return']:+.2%}" in html


def test_frames_an_array_and_a_lake_of_the_same_bars_are_the_same_market(
    market: Market, result: BacktestResult, tmp_path: object
) -> None:
    import pyarrow as pa

    from_frames = backtest(data=frames_of(market), trader=QUICK)
    assert from_frames.run.final_equity == result.run.final_equity
    lake = Lake(tmp_path / "lake")  # type: ignore[operator]
    for symbol, frame in frames_of(market).items():
        rows = frame.reset_index(names="open_time").assign(open_time=market.minutes * 60_000)
        lake.add(Series("klines", symbol, "1m"), pa.Table.from_pandas(rows, preserve_index=False), "import")
    from_lake = backtest(market.symbols, market.start_ms, market.end_ms, data=lake, trader=QUICK)
    assert from_lake.run.final_equity == result.run.final_equity
    assert from_lake.market.data_hash == from_frames.market.data_hash


def test_hours_are_a_market_too_and_minutes_under_them_are_used() -> None:
    market = make_planted_market("momentum", 842, days=30, symbols=1, b=0.15)
    frame = frames_of(market)["PLANTED0"]
    hours = frame.resample("60min").agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "taker_buy_volume": "sum"}
    )
    from labkit.research.markets import market_of_frames

    coarse = market_of_frames({"PLANTED0": hours})
    fine = market_of_frames({"PLANTED0": hours}, finer={"PLANTED0": frame})
    settings = {
        **QUICK,
        "horizon_minutes": 1440,
        "decision_every_minutes": 120,
        "cost_margin": 0.0,
        "prior_confidence_z": 0.0,
        "evidence_nats": 0.0,
    }
    alone, guided = (backtest(data=data, trader=settings) for data in (coarse, fine))
    assert alone.market.span_minutes == 60
    assert len(alone.trades) > 5
    first = alone.trades.iloc[0]
    assert first["opened"] == guided.trades.iloc[0]["opened"]
    ends = pd.DatetimeIndex(guided.trades["closed"])
    by_level = guided.trades["exit_reason"].isin(["stop_loss", "take_profit", "trailing_stop"]).to_numpy()
    assert (ends[by_level].minute != 0).any()
    assert set(guided.trades["exit_reason"]) <= set(EXIT_REASONS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"trader": {"horizon": 5}}, "did you mean"),
        ({"symbols": ["ETHUSDT"]}, "this market has"),
        ({"start": "2024-01-01", "end": "2024-01-02", "data": "simulated", "symbols": ["WUFFUSDT"]}, "not listed"),
    ],
)
def test_a_mistake_is_told_in_words(market: Market, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        backtest(**{"data": market, **arguments})  # type: ignore[arg-type]


def test_a_lake_without_these_candles_says_how_to_bring_them(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="lake"):
        backtest(["BTCUSDT"], "2024-01-01", "2024-01-02", data=tmp_path)  # type: ignore[arg-type]


def test_where_nothing_was_pulled_both_ways_on_are_named(data_dir: Path) -> None:
    assert not (data_dir / "lake").exists()
    with pytest.raises(ConfigError, match=r"nothing has been pulled yet. `labkit data pull .* data=\"simulated\""):
        backtest(["BTCUSDT"], "2024-01-01", "2024-01-02")


class Contrarian:
    """A rule brought from a notebook cell."""

    name = "contrarian"

    def probability(self, question: Question) -> float:
        return 0.5 - 0.1 * question.features["mom40"]


def test_a_policy_is_traded_through_the_same_calibration_and_a_wrong_one_is_not_traded(market: Market) -> None:
    wrong = backtest(data=market, trader=QUICK, policy=Contrarian())
    asked = wrong.decisions[wrong.decisions["p"] != 0.5]
    assert wrong.name == "contrarian"
    assert len(asked) > 1_000
    assert wrong.summary["skill"] < 0
    assert wrong.outcomes["calibrated"] > 1_000
    assert len(wrong.trades) < 20
    assert wrong.config_hash != backtest(data=market, trader=QUICK).config_hash


def test_no_decision_depends_on_bars_that_come_later(market: Market) -> None:
    cut = 10 * 1440
    other = market.rows.copy()
    other[cut:] = other[cut - 1]
    changed = Market(market.symbols, market.minutes, other, market.funding_minutes, market.funding_rates)
    before, after = (backtest(data=data, trader=QUICK).decisions for data in (market, changed))
    until = before["time"] <= pd.Timestamp(int(market.minutes[cut]) * 60_000, unit="ms", tz="UTC")
    assert until.sum() > 1_000
    pd.testing.assert_frame_equal(before[until], after[until], check_exact=True)
    assert not before[~until]["p"].equals(after[~until]["p"])


def test_every_backtest_is_counted_and_the_verdict_says_among_how_many(market: Market, data_dir: Path) -> None:
    market = market.between(start=market.start_ms + 10 * 86_400_000)
    alone = backtest(data=market, trader=QUICK).verdict
    for margin in (0.3, 0.4):
        many = backtest(data=market, trader={**QUICK, "cost_margin": margin}).verdict
    again = backtest(data=market, trader={**QUICK, "cost_margin": 0.4}).verdict
    assert many.trials == alone.trials + 2
    assert (again.trials, again.asked) == (many.trials, many.asked + 1)
    assert not many.evidence
    assert "No evidence of edge" in many.words
    with TrialLedger(data_dir) as ledger:
        assert ledger.count(market.window) == many.trials


def test_what_is_locked_away_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, market: Market) -> None:
    monkeypatch.setenv("LABKIT_DATA_DIR", str(tmp_path))
    with TrialLedger(tmp_path) as ledger:
        ledger.lock_away(market.end_ms - 86_400_000, market.end_ms)
    frames = frames_of(market)
    with pytest.raises(LockBoxClosed):
        backtest(data=frames, trader=QUICK)
    assert backtest(data=frames, end=market.end_ms - 86_400_000, trader=QUICK).verdict.trials == 1
