"""Features that know the future are caught, one by one for every usual way to do it; honest ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labkit.errors import ConfigError
from labkit.research.candle_functions import load_function
from labkit.research.indicators import indicators
from labkit.research.look_ahead import look_ahead
from labkit.research.warm_up import warm_up


@pytest.fixture(scope="module")
def candles() -> pd.DataFrame:
    random = np.random.default_rng(2)
    close = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, 1_500)))
    open_ = np.append(close[0], close[:-1])
    index = pd.date_range("2026-01-05", periods=1_500, freq="min", tz="UTC", name="open_time")
    reach = random.exponential(1e-3, (2, 1_500))
    return pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) * (1 + reach[0]),
            "low": np.minimum(open_, close) * (1 - reach[1]),
            "close": close,
            "volume": random.lognormal(3, 1, 1_500),
        },
        index=index,
    )


def resampled(frame: pd.DataFrame, label: str) -> Any:
    hours = frame["close"].resample("1h", label=label, closed="left").last()
    return hours.reindex(frame.index, method="ffill")


LEAKING: dict[str, Callable[[pd.DataFrame], Any]] = {
    "shifted into the past": lambda frame: frame["close"].shift(-1),
    "centred window": lambda frame: frame["close"].rolling(21, center=True).mean(),
    "statistics of the whole sample": lambda frame: (frame["close"] - frame["close"].mean()) / frame["close"].std(),
    "hours labelled with their beginning": lambda frame: resampled(frame, "left"),
    "filled from behind": lambda frame: frame["close"].where(frame["volume"] > frame["volume"].median()).bfill(),
    "rank in the whole sample": lambda frame: frame["volume"].rank(pct=True),
    "place in the sample": lambda frame: pd.Series(np.linspace(0, 1, len(frame)), index=frame.index),
    "rare and far": lambda frame: frame["close"].shift(-400).where(frame.index.minute == 0),
    "rows left out at the end": lambda frame: frame["close"].shift(-3).dropna(),
    "a word for the future": lambda frame: frame["close"].shift(-5).gt(frame["close"]).map({True: "up", False: "down"}),
}
HONEST: dict[str, Callable[[pd.DataFrame], Any]] = {
    "the close itself": lambda frame: frame["close"],
    "shifted into the future": lambda frame: frame["close"].shift(1),
    "window": lambda frame: frame["close"].rolling(21).std().dropna(),
    "running total": lambda frame: frame["volume"].cumsum(),
    "expanding z-score": lambda frame: frame["close"] / frame["close"].expanding().mean(),
    "smoothing": lambda frame: frame["close"].ewm(halflife=40).mean(),
    "hours known when they are over": lambda frame: resampled(frame, "right").shift(1),
    "TA-Lib": lambda frame: indicators(frame, "RSI(14)", "MACD(12,26,9)", "BBANDS(20,2,2)"),
    "changes its table": lambda frame: frame.assign(x=frame.pop("close").diff())["x"],
}


@pytest.mark.parametrize("name", LEAKING)
def test_a_feature_that_looks_ahead_is_caught(name: str, candles: pd.DataFrame) -> None:
    found = look_ahead(LEAKING[name], candles)
    assert len(found.peeks) == 1
    assert not found.is_clean


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_feature_is_not_accused(name: str, candles: pd.DataFrame) -> None:
    found = look_ahead(HONEST[name], candles)
    assert found.is_clean
    assert found.columns


@pytest.mark.parametrize(("bars", "at_least"), [(-1, 1), (-10, 10), (-400, 400)])
def test_the_reach_that_is_told_is_how_far_it_looked(bars: int, at_least: int, candles: pd.DataFrame) -> None:
    (peek,) = look_ahead(lambda frame: frame["close"].shift(bars), candles).peeks
    assert peek.bars_ahead == at_least
    assert peek.moments == 16


def test_each_column_is_judged_by_itself(candles: pd.DataFrame) -> None:
    found = look_ahead(lambda frame: frame.assign(ahead=frame["close"].shift(-2)), candles)
    assert [peek.column for peek in found.peeks] == ["ahead"]
    assert "ahead: looks at least 2 candles ahead" in str(found.peeks[0])


def test_what_differs_from_call_to_call_is_not_called_look_ahead(candles: pd.DataFrame) -> None:
    random = np.random.default_rng()
    found = look_ahead(lambda frame: pd.Series(random.random(len(frame)), index=frame.index), candles)
    assert found.unsteady == ("value",)
    assert found.peeks == ()
    assert not found.is_clean


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda frame: frame["closing"], "KeyError"),
        (lambda frame: 5, "returned int"),
        (lambda frame: frame["close"].reset_index(drop=True), "keep their index"),
    ],
)
def test_a_function_that_cannot_be_judged_is_told_why(
    function: Callable[[pd.DataFrame], Any], told: str, candles: pd.DataFrame
) -> None:
    with pytest.raises(ConfigError, match=told):
        look_ahead(function, candles)


def test_too_few_candles_are_no_ground_for_a_judgement(candles: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="too few"):
        look_ahead(HONEST["window"], candles.head(50))


@pytest.mark.parametrize(
    ("function", "bars"),
    [
        (lambda frame: frame["close"], 1),
        (lambda frame: frame["close"].shift(1), 2),
        (lambda frame: frame["close"].rolling(21).mean(), 21),
        (lambda frame: frame["close"].diff().rolling(60).std(), 61),
        (lambda frame: indicators(frame, "STDDEV(20)"), 20),
        (lambda frame: frame["volume"].cumsum(), None),
        (lambda frame: frame["close"].expanding().mean(), None),
    ],
)
def test_the_history_a_feature_needs_is_told_to_the_candle(
    function: Callable[[pd.DataFrame], Any], bars: int | None, candles: pd.DataFrame
) -> None:
    (found,) = warm_up(function, candles)
    assert found.bars == bars


def test_a_smoothing_needs_several_times_its_period(candles: pd.DataFrame) -> None:
    (found,) = warm_up(lambda frame: indicators(frame, "EMA(20)"), candles)
    assert found.bars is not None
    # From a start that is wrong by some thousandths, to a millionth: a few of its time constants of ten bars.
    assert 30 < found.bars < 150
    (rough,) = warm_up(lambda frame: indicators(frame, "EMA(20)"), candles, tolerance=1e-3)
    assert rough.bars is not None
    assert rough.bars < found.bars


def test_a_function_in_a_file_is_found_and_a_slip_is_told(tmp_path: Path, candles: pd.DataFrame) -> None:
    (tmp_path / "helper_of_mine.py").write_text("WINDOW = 5\n")
    file = tmp_path / "mine.py"
    file.write_text(
        "from helper_of_mine import WINDOW\n\n\ndef features(k):\n    return k[['close']].rolling(WINDOW).mean()\n"
    )
    assert look_ahead(load_function(f"{file}:features"), candles).columns == ("close",)
    for wrong, told in (
        (f"{file}", "FILE:FUNCTION"),
        (f"{file}:feature", "there are features"),
        (f"{tmp_path}/none.py:features", "no such Python file"),
    ):
        with pytest.raises(ConfigError, match=told):
            load_function(wrong)
    file.write_text("import nothing_of_the_kind\n")
    with pytest.raises(ConfigError, match="cannot be imported: ModuleNotFoundError"):
        load_function(f"{file}:features")
