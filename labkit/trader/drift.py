"""Drift: when what is counted on has lately come true less than a coin's toss would, stakes shrink, then stop.

The measure is Page and Hinkley's cumulative sum on skill: how many nats of log-loss the probabilities issued, cut down
by the calibration slope, have lost against a coin since their best moment. It is a likelihood ratio, so thresholds are
evidence: a loss of n nats that is mere chance is about exp(-n) likely from any given moment on (overlap and correlation
of labels make it likelier).
Steps: shrink (half the stake), hold (no entries), bench (no entries, and a long way back). Each is left only when much
of the loss is made good. Nothing of what was learned is touched: virtual positions go on, and with them the proof.
Used by the compiled step only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from labkit.trader.compiling import compiled

DRIFT_STEPS = ("steady", "shrink", "hold", "bench")
STAKES = np.array([1.0, 0.5, 0.0, 0.0])
"""Share of the stake by step."""
ENTERED_AT = np.array([0.0, 8.0, 12.0, 18.0])
"""Nats lost at which a step is taken."""
LEFT_AT = np.array([0.0, 4.0, 6.0, 9.0])
"""Nats lost at which it is left again for the one before."""
MOST_NATS = 24.0
"""The loss is counted up to this: from the bench it is always the same way back."""


@compiled
def observe_drift(common: Any, skill: float) -> None:
    """Take in the skill of one matured label (weighted nats saved against a coin)."""
    common.drift = min(max(common.drift - skill, 0.0), MOST_NATS)
    step = common.drift_step
    while step + 1 < ENTERED_AT.size and common.drift >= ENTERED_AT[step + 1]:
        step += 1
    while step > 0 and common.drift <= LEFT_AT[step]:
        step -= 1
    common.drift_step = step


@compiled
def drift_stake(common: Any) -> float:
    """The share of a stake that drift leaves, in [0, 1]."""
    return float(STAKES[common.drift_step])
