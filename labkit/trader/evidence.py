"""Evidence: how surely what has come true lately was no luck; the stake grows with it.

The measure is the log-loss, in nats, that the probabilities issued, cut down by the calibration slope, have saved
against a coin over the slope's own memory. It is the logarithm of a likelihood ratio that was staked on before each
answer was known (an e-value: Shafer, "Testing by betting", 2021), so asking every minute does not wear it out: by mere
chance it ever reaches n nats with a probability of about exp(-n), more where labels overlap. Below a third of what is
asked for a whole stake nothing is staked. Without it a calibration slope that is positive by luck trades: of twenty
years without any edge one lost 15 %. Used by the compiled step only.
"""

from __future__ import annotations

from typing import Any

from labkit.trader.compiling import compiled

LEAST_SHARE = 1.0 / 3.0
"""Of the evidence for a whole stake: where stakes begin."""


@compiled
def observe_evidence(common: Any, skill: float, keep: float) -> None:
    """Take in the skill of one matured label (weighted nats saved against a coin); `keep` is what memory keeps."""
    common.evidence = keep * common.evidence + skill


@compiled
def evidence_stake(common: Any, whole: float) -> float:
    """The share of a stake the evidence is worth, in [0, 1]: all of it from `whole` nats on; 0 asks for none."""
    if whole <= 0.0:
        return 1.0
    return float(min(max((common.evidence / whole - LEAST_SHARE) / (1.0 - LEAST_SHARE), 0.0), 1.0))
