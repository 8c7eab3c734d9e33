"""`lab.weather`: faults on demand at a lab's paper exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from labkit.domain.slips import methods_answer_slips, slips_answered
from labkit.paper.truth_table import IntentTruth, truth_table
from labkit.paper.venue import Venue
from labkit.paper.weather.admin import status as weather_status
from labkit.paper.weather.script import find_script

T = TypeVar("T")


class AtTheExchange(Protocol):
    """Does something with the venue (and the market time) on the thread it lives on, and returns what came of it."""

    def __call__(self, wish: Callable[[Venue, int], T], /) -> T: ...


@methods_answer_slips()
class WeatherControl:
    """The weather of a lab's paper exchange; shows itself in a notebook."""

    def __init__(self, at_the_exchange: AtTheExchange) -> None:
        self._do = at_the_exchange

    @slips_answered("lab.weather")
    def __call__(self, name_or_path: str, *, seed: int | None = None) -> WeatherControl:
        """Have a ready-made weather (`labkit weather ls`), or the script in a file, from now on.

        Raises:
            ConfigError: there is no such weather.
        """
        script = find_script(name_or_path, seed=seed)
        self._do(lambda venue, now_ms: venue.weather.begin(script, now_ms))
        return self

    def clear(self) -> WeatherControl:
        """Fair weather again."""
        self._do(lambda venue, now_ms: venue.weather.clear(now_ms))
        return self

    def status(self) -> dict[str, Any]:
        """What weather there is, and how often each fault struck."""
        return self._do(lambda venue, now_ms: weather_status(venue))

    def executions(self) -> dict[str, IntentTruth]:
        """The exchange's own truth table: what became of every client order id."""
        return self._do(lambda venue, now_ms: truth_table(venue.desk))

    def __repr__(self) -> str:
        status = self.status()
        struck = ", ".join(f"{fault} {count}x" for fault, count in status["strikes"].items())
        return f"Weather({status['weather'] or 'fair'}; struck: {struck or 'nothing'})"

    def _repr_html_(self) -> str:
        from labkit.widgets.lab_card import weather_card

        return weather_card(self.status())
