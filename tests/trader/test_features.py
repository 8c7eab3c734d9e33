"""What the features promise: causal, odd in the side, bounded."""

from __future__ import annotations

import numpy as np

from labkit.config import TraderConfig
from labkit.research.planted_markets import make_planted_market
from labkit.trader.features import CLOSE, FEATURE_NAMES, HIGH, LOW, OPEN, TAKER_BUY_VOLUME, VOLUME
from labkit.trader.state import new_state, settings_of
from labkit.trader.step import advance, nobody_else, scratch

SETTINGS = settings_of(TraderConfig(decision_every_minutes=1), 3)
MINUTE_ONLY = ("drift", "tod_sin", "tod_cos")


def features_after(rows: np.ndarray) -> np.ndarray:
    state = new_state(SETTINGS, 3)
    advance(SETTINGS, state, np.arange(len(rows)), rows, nobody_else(3), *scratch())
    return np.array(state.symbols["x"])


def test_in_a_mirrored_market_every_feature_of_the_market_changes_its_sign_only() -> None:
    rows = make_planted_market("context", 5, days=2, symbols=3, b=0.1).rows
    mirrored = rows.copy()
    mirrored[..., OPEN], mirrored[..., CLOSE] = 1 / rows[..., OPEN], 1 / rows[..., CLOSE]
    mirrored[..., HIGH], mirrored[..., LOW] = 1 / rows[..., LOW], 1 / rows[..., HIGH]
    mirrored[..., TAKER_BUY_VOLUME] = rows[..., VOLUME] - rows[..., TAKER_BUY_VOLUME]
    as_is, reflected = features_after(rows), features_after(mirrored)
    for i, name in enumerate(FEATURE_NAMES):
        sign = 1 if name in MINUTE_ONLY else -1
        np.testing.assert_allclose(reflected[:, i], sign * as_is[:, i], atol=1e-9, err_msg=name)


def test_features_do_not_know_the_unit_of_a_price() -> None:
    rows = make_planted_market("context", 6, days=1, symbols=3, b=0.1).rows
    scaled = rows * np.array([1000, 1000, 1000, 1000, 7, 7])
    np.testing.assert_allclose(features_after(scaled), features_after(rows), atol=1e-9)


def test_features_are_of_order_one_and_vary() -> None:
    rows = make_planted_market("context", 7, days=10, symbols=3).rows
    state, seen = new_state(SETTINGS, 3), []
    minutes, space = np.arange(len(rows)), scratch()
    for start in range(0, len(rows), 97):
        advance(SETTINGS, state, minutes[start : start + 97], rows[start : start + 97], nobody_else(3), *space)
        seen.append(state.symbols["x"].copy())
    values = np.concatenate(seen[30:])
    assert np.abs(values).max() <= 4.0
    spread = values.std(axis=0)
    assert spread[0] == 0.0  # drift is the constant
    assert (spread[1:] > 0.05).all()


def test_a_history_without_taker_volume_is_still_lived_through() -> None:
    rows = make_planted_market("context", 8, days=1, symbols=3).rows
    rows[..., TAKER_BUY_VOLUME] = np.nan
    x = features_after(rows)
    assert np.isfinite(x).all()
    assert (x[:, FEATURE_NAMES.index("flow")] == 0.0).all()
