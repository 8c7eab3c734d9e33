"""Indicators: TA-Lib's over a table, ours bar by bar, the same numbers from the same first bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labkit.errors import ConfigError
from labkit.research.indicators import indicator_names, indicators
from labkit.trader.indicators import Atr, Bollinger, Deviation, Ema, Macd, Momentum, RateOfChange, Rsi

BARS = 3_000


def candles(seed: int = 4, price: float = 50_000.0) -> pd.DataFrame:
    """A walk on a tick grid with quiet stretches, where closes repeat and nothing moves."""
    random = np.random.default_rng(seed)
    steps = random.normal(0, 12, BARS) * (random.random(BARS) > 0.2)
    steps[500:560] = 0.0
    close = np.round(price + np.cumsum(steps), 1)
    open_ = np.append(close[0], close[:-1])
    high = np.maximum(open_, close) + np.round(random.exponential(6, BARS), 1)
    low = np.minimum(open_, close) - np.round(random.exponential(6, BARS), 1)
    low[500:560] = high[500:560] = open_[500:560] = close[500:560]
    index = pd.date_range("2026-01-05", periods=BARS, freq="min", tz="UTC", name="open_time")
    volume = random.lognormal(3, 1, BARS)
    return pd.DataFrame({"open": open_, "high": high, "low": low, "close": close, "volume": volume}, index=index)


def by_close(indicator: Any) -> Callable[[pd.DataFrame], list[Any]]:
    return lambda frame: [indicator.update(close) for close in frame["close"].tolist()]


def by_bar(indicator: Any) -> Callable[[pd.DataFrame], list[Any]]:
    return lambda frame: [
        indicator.update(*bar) for bar in frame[["high", "low", "close"]].itertuples(index=False, name=None)
    ]


@pytest.mark.parametrize(
    ("name", "bar_by_bar"),
    [
        ("EMA(20)", by_close(Ema(20))),
        ("EMA(720)", by_close(Ema(720))),
        ("RSI(14)", by_close(Rsi(14))),
        ("ATR(14)", by_bar(Atr(14))),
        ("ATR(1)", by_bar(Atr(1))),
        ("MACD(12,26,9)", by_close(Macd(12, 26, 9))),
        ("STDDEV(20)", by_close(Deviation(20))),
        ("BBANDS(20,2,2)", by_close(Bollinger(20, 2.0))),
        ("MOM(10)", by_close(Momentum(10))),
        ("ROC(10)", by_close(RateOfChange(10))),
    ],
)
def test_bar_by_bar_and_over_the_table_agree_from_the_first_value_on(
    name: str, bar_by_bar: Callable[[pd.DataFrame], list[Any]]
) -> None:
    frame = candles()
    table = indicators(frame, name).to_numpy()
    ours = np.array(bar_by_bar(frame), float).reshape(table.shape)
    assert np.isfinite(table).sum() > BARS // 2
    assert (np.isnan(ours) == np.isnan(table)).all()
    # To 1e-9 of the numbers, and of the price for what is a difference of prices.
    scale = np.nanmax(np.abs(table)) if name.startswith(("RSI", "ROC")) else frame["close"].max()
    assert np.nanmax(np.abs(ours - table) / np.maximum(np.abs(table), scale)) < 1e-9


def test_a_smoothing_that_began_elsewhere_does_not_agree() -> None:
    frame = candles()
    late = Ema(720)
    ours = [late.update(close) for close in frame["close"].iloc[1:].tolist()]
    assert abs(ours[-1] - indicators(frame, "EMA(720)").iloc[-1, 0]) / ours[-1] > 1e-9


def test_columns_bear_the_names_that_were_asked_for_and_tell_their_warm_up() -> None:
    frame = indicators(candles(), "EMA(20)", "macd", "OBV")
    assert list(frame.columns) == ["EMA(20)", "macd.macd", "macd.macdsignal", "macd.macdhist", "OBV"]
    assert frame.attrs["warm_up"] == {
        "EMA(20)": 19, "macd.macd": 33, "macd.macdsignal": 33, "macd.macdhist": 33, "OBV": 0,
    }  # fmt: skip
    for column, bars in frame.attrs["warm_up"].items():
        assert frame[column].first_valid_index() == frame.index[bars]


def test_every_indicator_that_candles_suffice_for_can_be_named() -> None:
    frame = candles()
    refused = []
    for name in indicator_names():
        try:
            assert len(indicators(frame, name)) == BARS
        except ConfigError as error:
            refused.append(str(error))
    assert all("needs a column" in complaint for complaint in refused)
    assert len(indicator_names()) - len(refused) > 150


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("EMMA(20)", "did you mean"),
        ("EMA(20,3)", "takes timeperiod"),
        ("EMA(x)", "timeperiod"),
        ("EMA(-4)", "timeperiod"),
        ("", "indicator_names"),
    ],
)
def test_a_slip_is_told(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        indicators(candles(), name)


def test_a_missing_column_is_told_with_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match="needs a column volume; there are close"):
        indicators(candles()[["close"]], "OBV")


@pytest.mark.parametrize("make", [lambda: Ema(1), lambda: Momentum(0), lambda: Macd(26, 12)])
def test_a_period_that_is_none_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        make()
