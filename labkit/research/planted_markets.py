"""Markets with a planted, known edge (reference/self-learning, Appendix A), to judge a learner by. Seeded, bars only.

`make_planted_market` is the exact generator. `oracle` is the probability of someone who knows the drift of the next bar
and nothing else: what it earns through the same broker, at the same costs, is what a learner can be measured against.
Used by the tests, by `benchmarks/learning.py` and in notebooks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import ConfigError
from labkit.research.compiling import compiled
from labkit.research.markets import Market, market_of_arrays
from labkit.trader.features import MINUTES_PER_DAY

KINDS = ("null", "momentum", "regime", "context")
NULL, MOMENTUM, REGIME, CONTEXT = range(len(KINDS))
FIRST_MINUTE = 20_000 * MINUTES_PER_DAY
"""A midnight: the generator's days begin at its minute 0."""

_SCHEDULE = np.array([1.0, -1.0, 0.0, 1.0, -1.0, 1.0, 0.0, -1.0])
_SIGMA, _VOLATILITY_SD, _CORRELATION = 1e-3, 0.35, 0.5


def make_planted_market(
    kind: str, seed: int, *, days: int = 365, symbols: int = 5, b: float = 0.02, half_life: float = 120.0
) -> Market:
    """The generator of Appendix A; draws in its order, so a seed means the same market everywhere.

    Args:
        kind: `null` (no edge), `momentum`, `regime` (its sign changes every 45 days, with pauses), `context` (its sign
            is that of log volatility).
        b: drift of a bar in units of its volatility; negative for reversion.
        half_life: of the momentum the drift follows, in minutes.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind {kind!r}: must be one of {', '.join(KINDS)}", field="kind")
    count = MINUTES_PER_DAY * days
    shape = (count, symbols)
    random = np.random.Generator(np.random.PCG64(seed))
    common_return, own_return = random.standard_normal(count), random.standard_normal(shape)
    common_volatility, own_volatility = random.standard_normal(count), random.standard_normal(shape)
    up, down, jump = 1.0 - random.random(shape), 1.0 - random.random(shape), random.random(shape)
    jump_size, volume, flow = (random.standard_normal(shape) for _ in range(3))
    rows = np.empty((*shape, 6))
    drift = np.empty(shape)
    _draw(
        KINDS.index(kind), b, half_life, common_return, own_return, common_volatility, own_volatility, up, down, jump,
        jump_size, volume, flow, rows, drift,
    )  # fmt: skip
    source = f"planted {kind}, seed {seed}, b {b:g}, half-life {half_life:g} minutes"
    return market_of_arrays(
        tuple(f"PLANTED{s}" for s in range(symbols)),
        FIRST_MINUTE + np.arange(count, dtype=np.int64),
        rows,
        source=source,
        drift=drift,
        origin=source,
    )


def oracle(market: Market, slope: float) -> NDArray[np.float64]:
    """float64[T, S]: 1/(1 + exp(-slope · drift of the next bar)), the probability of the long bracket to an oracle."""
    if market.drift is None:
        raise ConfigError("nothing is known to be planted in this market: only planted markets have an oracle")
    known = np.vstack((market.drift[1:], np.zeros((1, market.drift.shape[1]))))
    return np.asarray(1.0 / (1.0 + np.exp(-slope * known)))


@compiled
def _draw(
    kind: Any, b: Any, half_life: Any, ec: Any, ei: Any, evc: Any, evi: Any, uh: Any, ul: Any, uj: Any,
    nj: Any, nv: Any, nf: Any, rows: Any, drift: Any,
) -> None:  # fmt: skip
    count, symbols = ei.shape
    phi = 2.0 ** (-1.0 / 1440.0)
    rate = 1.0 - 2.0 ** (-1.0 / half_life)
    scale = np.sqrt((2.0 - rate) / rate)
    price, volatility, momentum = np.full(symbols, 100.0), np.zeros(symbols), np.zeros(symbols)
    for t in range(count):
        day_shape = 1.0 + 0.3 * np.cos(2.0 * np.pi * ((t % 1440) - 840) / 1440.0)
        for s in range(symbols):
            beta = 0.0
            if kind == MOMENTUM:
                beta = b
            elif kind == REGIME:
                beta = b * _SCHEDULE[(t // 64_800) % 8]
            elif kind == CONTEXT:
                beta = b if volatility[s] > 0.0 else -b
            d = beta * np.tanh(momentum[s] * scale)
            drift[t, s] = d
            volatility[s] = phi * volatility[s] + np.sqrt(1.0 - phi * phi) * _VOLATILITY_SD * (
                np.sqrt(0.8) * evc[t] + np.sqrt(0.2) * evi[t, s]
            )
            sd = _SIGMA * np.exp(volatility[s] - 0.5 * _VOLATILITY_SD**2) * day_shape
            r = sd * (d + np.sqrt(_CORRELATION) * ec[t] + np.sqrt(1.0 - _CORRELATION) * ei[t, s])
            if uj[t, s] < 1.0 / 5760.0:
                r += 8.0 * sd * nj[t, s]
            x0 = np.log(price[s])
            x1 = x0 + r
            rows[t, s, 0] = price[s]
            rows[t, s, 1] = np.exp(0.5 * (x0 + x1 + np.sqrt((x1 - x0) ** 2 - 2.0 * sd * sd * np.log(uh[t, s]))))
            rows[t, s, 2] = np.exp(0.5 * (x0 + x1 - np.sqrt((x1 - x0) ** 2 - 2.0 * sd * sd * np.log(ul[t, s]))))
            rows[t, s, 3] = np.exp(x1)
            # exp and log do not round-trip to the last bit: a bar must contain its own ends.
            rows[t, s, 1] = max(rows[t, s, 1], rows[t, s, 0], rows[t, s, 3])
            rows[t, s, 2] = min(rows[t, s, 2], rows[t, s, 0], rows[t, s, 3])
            price[s] = rows[t, s, 3]
            z = min(max(r / sd, -6.0), 6.0)
            momentum[s] += rate * (z - momentum[s])
            rows[t, s, 4] = np.exp(0.5 * volatility[s] + 0.4 * nv[t, s])
            rows[t, s, 5] = rows[t, s, 4] * 0.5 * (1.0 + np.tanh(0.3 * z + 0.9 * nf[t, s]))
