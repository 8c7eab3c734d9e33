"""The virtual book: every decision asks both sides a bracket, filled at the next open, settled from closed bars only.

A pair is a long and a short bracket with the same symmetric barrier, so its outcome is one label q for the long side
(1 target first, 0 stop first, in between by the result at time-out). Every pair becomes a label, traded or not: what
the learner sees does not depend on what the policy likes. Used by the compiled step only.
"""

from __future__ import annotations

from typing import Any

from labkit.trader.compiling import compiled
from labkit.trader.features import CLOSE, HIGH, LOW, OPEN, clip
from labkit.trader.learner import learn

_FAR = 1e300
_NEVER = 1 << 62


@compiled
def ask(symbol: Any, pairs: Any, minute: int) -> None:
    """Open a pair on the question just put to the learner; it is filled at the open of the symbol's next bar."""
    pair = pairs[symbol.pairs]
    pair.asked_minute = minute
    pair.barrier = symbol.barrier
    pair.close = symbol.last_close
    pair.p = symbol.p
    pair.learner_p = symbol.learner_p
    pair.x[:] = symbol.x
    pair.expert_p[:] = symbol.expert_p
    symbol.pairs += 1
    symbol.pending = 1


@compiled
def settle(
    common: Any, symbol: Any, pairs: Any, answers: Any, symbol_index: int, minute: int, row: Any, horizon: int
) -> None:
    """Let one closed bar happen to the symbol's pairs: fill the pending one, learn from those that end."""
    if symbol.pending == 1:
        pair = pairs[symbol.pairs - 1]
        pair.entry = row[OPEN]
        pair.entry_minute = minute
        pair.due = minute + horizon - 1
        pair.weight = 1.0 / symbol.pairs
        symbol.pending = 0
        _bound(symbol, pair)
    if row[HIGH] < symbol.nearest_above and row[LOW] > symbol.nearest_below and minute < symbol.next_due:
        return
    kept = 0
    open_pairs = symbol.pairs
    symbol.nearest_above = _FAR
    symbol.nearest_below = -_FAR
    symbol.next_due = _NEVER
    for i in range(open_pairs):
        pair = pairs[i]
        q = _outcome(pair, minute, row)
        if q >= 0.0:
            learn(common, pair.x, q, pair.p, pair.expert_p, pair.weight)
            answer = answers[common.closed % answers.size]
            answer.minute, answer.symbol, answer.asked_minute = minute, symbol_index, pair.asked_minute
            answer.q, answer.weight = q, pair.weight
            answer.close, answer.barrier, answer.learner_p = pair.close, pair.barrier, pair.learner_p
            answer.x[:] = pair.x
            common.closed += 1
        else:
            _bound(symbol, pair)
            if kept != i:
                pairs[kept] = pair
            kept += 1
    symbol.pairs = kept


@compiled
def _bound(symbol: Any, pair: Any) -> None:
    symbol.nearest_above = min(symbol.nearest_above, pair.entry * (1.0 + pair.barrier))
    symbol.nearest_below = max(symbol.nearest_below, pair.entry * (1.0 - pair.barrier))
    symbol.next_due = min(symbol.next_due, pair.due)


@compiled
def _outcome(pair: Any, minute: int, row: Any) -> float:
    """The pair's label after this bar, or -1 if it goes on."""
    above = pair.entry * (1.0 + pair.barrier)
    below = pair.entry * (1.0 - pair.barrier)
    # The open comes first: a gap through a barrier, or a time-out that fell into missing minutes.
    if row[OPEN] >= above:
        return 1.0
    if row[OPEN] <= below:
        return 0.0
    if minute > pair.due:
        return 0.5 * (1.0 + clip((row[OPEN] / pair.entry - 1.0) / pair.barrier, 1.0))
    if row[HIGH] >= above and row[LOW] <= below:
        # Nobody knows which came first: each leg is assumed to have met its stop, which cancels in the pair's label.
        return 0.5
    if row[HIGH] >= above:
        return 1.0
    if row[LOW] <= below:
        return 0.0
    if minute == pair.due:
        return 0.5 * (1.0 + clip((row[CLOSE] / pair.entry - 1.0) / pair.barrier, 1.0))
    return -1.0
