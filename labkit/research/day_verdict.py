"""What all days of a ledger prove so far, and what anybody could have earned on them.

The lab's own days are judged as a backtest's are (`labkit.research.verdict`), with every trial counted that looked at
the same prices. Beside them stand cash, and all symbols of the lab bought, or sold short, in equal parts with the whole
balance on the first day and held: their prices are those the ledger recorded, the taker fee is paid once. Called by the
daily report's notebook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labkit.domain.clock import DAY_MS
from labkit.domain.day_history import DayHistory, SymbolMove
from labkit.research import statistics
from labkit.research.statistics import DAYS_PER_YEAR
from labkit.research.trials import FOLDER, NO_TRIALS, RECORDED, TrialLedger, Trials, Window
from labkit.research.verdict import BUY_AND_HOLD, CASH, LEAST_DAYS, Verdict, judge

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

ACCOUNT, SHORT_AND_HOLD = "the account", "short and hold"
GOOD_SHARPE = 2.0
"""Of a strategy a fund would be glad of; what it takes to see it stands where there is nothing to judge yet."""


class NoTrackRecord:
    """Said in place of a verdict while there is only one day."""

    def __init__(self) -> None:
        daily = GOOD_SHARPE / math.sqrt(DAYS_PER_YEAR)
        needed = statistics.minimum_track_record(daily, 0.0, 3.0, benchmark=0.0)
        self.words = (
            f"One day is no track record: there is nothing to judge. {LEAST_DAYS} days are the least to judge by, and "
            f"a strategy with a Sharpe ratio of {GOOD_SHARPE:.0f} needs about {needed:,.0f} to be told from luck."
        )

    def __repr__(self) -> str:
        return self.words

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.words)}</p>"


def judge_days(history: DayHistory, ledger: Path | str) -> Verdict | NoTrackRecord:
    """The verdict over all days of the ledger up to this one.

    Args:
        ledger: the file the history was read from, or its folder; trials are counted beside it, if any were.

    Raises:
        LedgerDamaged: trials were altered or deleted.
    """
    returns = account_returns(history)
    if returns.size < 2:
        return NoTrackRecord()
    path = Path(ledger)
    return judge(returns, _held(history), _trials(history, path if path.is_dir() else path.parent))


def beside_the_account(history: DayHistory) -> pd.DataFrame:
    """The account beside cash, buy and hold, and short and hold: this day and all days, in percent after fees."""
    import pandas as pd

    own = account_returns(history)
    rows = {ACCOUNT: own, CASH: np.zeros(own.size), **_held(history)}
    frame = pd.DataFrame(
        {
            "what": list(rows),
            "this day": [round(100 * float(values[-1]), 2) + 0.0 for values in rows.values()],
            "all days": [round(100 * float(np.prod(1 + values) - 1), 2) + 0.0 for values in rows.values()],
            "deepest drawdown": [round(100 * statistics.max_drawdown(values).depth, 2) for values in rows.values()],
            "Sharpe ratio": [
                round(statistics.sharpe_ratio(values), 2) + 0.0 if values.size > 1 else None for values in rows.values()
            ],
        }
    )
    frame.attrs["units"] = {"this day": "%", "all days": "%", "deepest drawdown": "%", "Sharpe ratio": "365-day year"}
    frame.attrs["money"] = []
    return frame


def account_returns(history: DayHistory) -> Floats:
    """float64[D], the account's return on each UTC day from the ledger's first to this one; 0 on days it was off."""
    first = date.fromisoformat(history.days[0].day)
    found = np.zeros((date.fromisoformat(history.day) - first).days + 1)
    for summary in history.days:
        found[(date.fromisoformat(summary.day) - first).days] = summary.day_return
    return found


def _held(history: DayHistory) -> dict[str, Floats]:
    fee = float(history.days[-1].settings.get("trader.taker_fee_rate", 0.0))
    long = _long_returns(history)
    entry = np.zeros(long.size)
    entry[0] = fee
    return {BUY_AND_HOLD: long - entry, SHORT_AND_HOLD: -long - entry}


def _long_returns(history: DayHistory) -> Floats:
    """float64[D], equal parts of every symbol, set right each day; what happened while the lab was off counts when it
    came back."""
    first = date.fromisoformat(history.days[0].day)
    found = np.zeros((date.fromisoformat(history.day) - first).days + 1)
    last: dict[str, float] = {}
    for summary in history.days:
        moved = _moved(summary.moves, last)
        found[(date.fromisoformat(summary.day) - first).days] = float(np.mean(moved)) if moved else 0.0
        last |= {symbol: float(move.last) for symbol, move in summary.moves.items()}
    return found


def _moved(moves: Mapping[str, SymbolMove], last: Mapping[str, float]) -> list[float]:
    return [float(move.last) / last.get(symbol, float(move.first)) - 1.0 for symbol, move in moves.items()]


def _trials(history: DayHistory, data_dir: Path) -> Trials:
    if not (data_dir / FOLDER).is_dir():
        return NO_TRIALS
    start = datetime.fromisoformat(history.days[0].day).replace(tzinfo=UTC)
    window = Window(
        symbols=history.symbols,
        interval="1m",
        start_ms=int(start.timestamp()) * 1000,
        end_ms=history.start_ms + DAY_MS,
        data_hash=history.ledger_hash,
        origin=history.disclosure if history.market == "simulated" else RECORDED,
    )
    with TrialLedger(data_dir) as ledger:
        return ledger.trials(window)
