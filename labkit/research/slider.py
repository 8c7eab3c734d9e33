"""Rerun: the engine behind a slider. While a setting is dragged the last days are run again, on release all of them.

A thread of its own runs what was asked for last: a newer request interrupts an older one at the end of its simulated
day. The compiled run holds no lock of Python's, so the notebook stays alive. Settings that do not shape what is learned
meet what was learned the last time (`lessons`). Used by the tuning widget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from labkit.config import Config
from labkit.domain.clock import DAY_MS
from labkit.domain.decisions import LEARNER
from labkit.errors import ConfigError
from labkit.research.backtest import BacktestResult, data_folder, with_settings
from labkit.research.lessons import Lessons
from labkit.research.markets import Market
from labkit.research.simulation import costs_of, simulate
from labkit.research.trials import Trial, TrialLedger

PREVIEW_DAYS = 90


class Answer(NamedTuple):
    """What came of request `number`: a result, or the error its settings are."""

    number: int
    settings: dict[str, Any]
    preview: bool
    result: BacktestResult | None
    error: ConfigError | None
    trials: int = 0
    """How many different trials have looked at this history by now, this one included."""


class _Request(NamedTuple):
    number: int
    settings: dict[str, Any]
    preview: bool


class Rerun:
    """Runs one market under ever new settings. Every finished run is counted as a trial: a slider forgets nothing.

    Args:
        config: the settings that stay.
        on_answer: called from the engine's thread with every answer that is still wanted, in the order of requests.
        spread_bps: the whole spread, in basis points.

    Raises:
        LockBoxClosed: part of this history is kept for a last look.
    """

    def __init__(
        self, market: Market, config: Config, on_answer: Callable[[Answer], None], *, spread_bps: float = 1.0
    ) -> None:
        with TrialLedger(data_folder(config)) as trials:
            trials.admit(market.window)
        self.market = market
        self.preview_market = market.between(start=max(market.start_ms, market.end_ms - PREVIEW_DAYS * DAY_MS))
        self._lessons = {True: Lessons(), False: Lessons()}
        self._config = config
        self._on_answer = on_answer
        self._spread_bps = spread_bps
        self._newest = 0
        self._pending: _Request | None = None
        self._stop = np.zeros(1, np.int64)
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="labkit-rerun", daemon=True)
        self._thread.start()

    def ask(self, settings: Mapping[str, Any], *, preview: bool) -> int:
        """Run with these settings (names as in `sweep`); returns the number its answer will bear. Returns at once.

        Older requests that have not been answered never will be.
        """
        with self._changed:
            self._newest += 1
            self._pending = _Request(self._newest, dict(settings), preview)
            self._stop[0] = 1
            self._changed.notify()
            return self._newest

    def close(self) -> None:
        """Answer nothing any more and end the thread."""
        with self._changed:
            self._closed = True
            self._pending = None
            self._stop[0] = 1
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        with TrialLedger(data_folder(self._config)) as trials:
            self._work_and_count(trials)

    def _work_and_count(self, trials: TrialLedger) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending is not None or self._closed)
                if self._closed or self._pending is None:
                    return
                request, self._pending = self._pending, None
                self._stop[0] = 0
            answer = self._answer(request)
            if answer.result is not None and not self._stop[0]:
                own = answer.result
                trials.record(Trial(own.market.window, "slider", own.config_hash, own.daily_returns))
                answer = answer._replace(trials=trials.count(own.market.window))
            with self._changed:
                wanted = self._newest == request.number and not self._closed
            if wanted:
                self._on_answer(answer)

    def _answer(self, request: _Request) -> Answer:
        market = self.preview_market if request.preview else self.market
        try:
            settings = dict(request.settings)
            spread_bps = float(settings.pop("spread_bps", self._spread_bps))
            config = with_settings(self._config, settings)
            costs = costs_of(config, spread_bps * 1e-4)
            lessons = self._lessons[request.preview]
            run = simulate(market, config, costs, keep_decisions=True, stop=self._stop, lessons=lessons)
        except ConfigError as error:
            return Answer(*request, None, error)
        return Answer(*request, BacktestResult(LEARNER, market, config, costs, run), None)
