"""A person's slip in a call of research: one sentence that says what was wrong and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

import labkit
from labkit.errors import ConfigError
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("null", 5, days=3, symbols=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"symbols": 3}, r"symbols: write a list of names, e\.g\. \['BTCUSDT'\], not 3"),
        ({"symbols": ["NOPE"], "data": "simulated"}, "NOPE is not listed"),
        ({"trader": ["horizon_minutes"]}, "trader: write a dictionary of settings"),
        ({"risk": 3}, "risk: write a dictionary of settings"),
        ({"trader": {"horizon": 60}}, r"did you mean 'trader\.horizon_minutes'"),
        ({"trader": {"horizon_minutes": -60}}, r"setting trader\.horizon_minutes: Expected `int` >= 5"),
        ({"spread_bps": -1}, "spread_bps: -1 is no number of basis points from 0 on"),
        ({"spread_bps": "wide"}, "spread_bps: 'wide' is no number"),
        ({"spread_bps": float("nan")}, "spread_bps: nan is no number"),
        ({"data": 3}, 'data: 3 is no market; "lake", "simulated"'),
        ({"data": {"A": 3}}, "data: A needs a DataFrame of candles, not 3"),
        ({"data": "lake"}, "say from when to when"),
        ({"data": "simulted"}, "data: there is no file or folder simulted; did you mean simulated"),
        ({"tradr": {}}, r"backtest\(\) takes no 'tradr'; did you mean trader\?"),
        (
            {"horizon_minutes": 60},
            r"backtest\(\) takes no 'horizon_minutes'; write trader=\{\"horizon_minutes\": 60\}$",
        ),
        ({"horizon": 60}, r"write trader=\{\"horizon_minutes\": 60\}$"),
        ({"max_open_positions": 2}, r"write risk=\{\"max_open_positions\": 2\}$"),
        ({"workers": 2}, r"backtest\(\) takes no 'workers'; it takes symbols, start, end"),
        ({"start": "soon"}, "start 'soon': write a UTC day or time"),
        ({"start": "2024-02-01", "end": "2024-01-01"}, "start 2024-02-01 does not lie before end 2024-01-01"),
        ({"policy": 3}, "policy 3 has no name"),
    ],
)
def test_a_backtest_says_what_was_wrong(market: Market, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        labkit.backtest(**{"data": market, "progress": False} | given)


@pytest.mark.parametrize(
    ("grid", "given", "said"),
    [
        ([60], {}, "grid: write a dictionary of the values to try"),
        ({"horizon_minutes": 60}, {}, "grid: horizon_minutes needs a list of values"),
        ({"horizon_minutes": []}, {}, "grid: horizon_minutes needs a list of values"),
        ({"horizon": [60]}, {}, "horizon_minutes"),
        ({"cost_margin": [0.0]}, {"sheduler": "x"}, r"sweep\(\) takes no 'sheduler'; did you mean scheduler\?"),
        ({}, {"workers": -2}, "workers: -2 is no whole number from 0 on"),
        ({"cost_margin": [0.0]}, {"scheduler": "nowhere"}, "scheduler 'nowhere': no Dask cluster answers there"),
    ],
)
def test_a_sweep_says_what_was_wrong(market: Market, grid: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        labkit.sweep(grid, data=market, progress=False, **given)


@pytest.mark.parametrize(
    ("space", "given", "said"),
    [
        ({"horizon_minutes": 60}, {}, "space: horizon_minutes needs its lowest and highest value"),
        ({"horizon_minutes": (120, 60)}, {}, r"not \(120, 60\)"),
        ({"cost_margin": (0.0, 1.0)}, {"points": 0}, "points: 0 is no whole number from 1 on"),
        ({"cost_margin": (0.0, 1.0)}, {"by": "sharp"}, "by: 'sharp' is no figure of a backtest; one of return, sharpe"),
    ],
)
def test_a_search_says_what_was_wrong(market: Market, space: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        labkit.search(space, data=market, progress=False, **given)


def test_what_is_as_it_should_be_is_let_through(market: Market) -> None:
    run = labkit.backtest(data=market, spread_bps=0, start="2024-10-04", trader={}, risk=None, progress=False)
    assert run.market.symbols == market.symbols


@pytest.mark.parametrize("call", [labkit.search, labkit.sweep])
def test_a_call_without_what_to_try_says_what_is_missing(call: Any) -> None:
    with pytest.raises(ConfigError, match=r"missing a required argument: '(grid|space)'; write (search|sweep)\("):
        call()


def test_a_walk_forward_says_what_was_wrong(market: Market) -> None:
    with pytest.raises(ConfigError, match=r"walk_forward\(\) takes no 'trian_days'; did you mean train_days\?"):
        labkit.walk_forward(data=market, trian_days=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("call", [labkit.sweep, labkit.search, labkit.walk_forward, labkit.tune])
def test_a_setting_of_the_trader_is_told_where_it_belongs(call: Any) -> None:
    with pytest.raises(ConfigError, match=r"takes no 'cost_margin'; write trader=\{\"cost_margin\": 0\.5\}$"):
        call(cost_margin=0.5)
