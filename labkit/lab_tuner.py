"""`labkit.tune` and `lab.tuner()`: the tuner's page (widgets) joined to what runs history for it (research)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.config import SECTIONS, Config, home
from labkit.domain.moments import Moment
from labkit.domain.slips import slips_answered
from labkit.research.backtest import Data, configured, market_of
from labkit.research.tuning import Tuning
from labkit.widgets.tuner import LabToTune, Tuner


@slips_answered(sections=SECTIONS)
def tune(
    symbols: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    data: Data = "lake",
    trader: dict[str, Any] | None = None,
) -> Tuner:
    """Move the trader's settings and see at once what they would have come to. No lab is needed.

    Args:
        symbols, start, end, data: the history, as in `labkit.backtest`.
        trader: settings that differ from the configuration's; what is shown in grey to compare with.

    Raises:
        ConfigError: a setting nobody knows, or no such data; the message says what there is.
        LockBoxClosed: part of this history is kept for a last look.
    """
    return tuner_of(configured(symbols, trader), start, end, data, None, given=symbols is not None)


def tuner_of(
    config: Config, start: Moment | None, end: Moment | None, data: Data, lab: LabToTune | None, *, given: bool = True
) -> Tuner:
    """The tuner of `config` over that history, beside `lab` if there is one. Raises as `tune` does."""
    market = market_of(data, config, start, end, given=given)
    folder = home() / config.data_dir
    return Tuner(lambda compared, on_look: Tuning(market, compared, on_look), config, folder, market.span, lab)
