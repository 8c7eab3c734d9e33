"""A lab and its weather as the last line of a cell."""

from __future__ import annotations

from typing import Any

from labkit.paper.weather.script import WEATHERS
from labkit.widgets.lab_card import lab_card, weather_card


def test_the_card_of_a_lab_names_its_state_its_folder_and_its_equity(lab: Any) -> None:
    shown = lab_card(lab.snapshot(), "/data/<mine>")
    assert "running" in shown
    assert "/data/&lt;mine&gt;" in shown
    assert "Equity" in shown


def test_the_card_of_the_weather_counts_what_struck_and_lists_what_there_is() -> None:
    shown = weather_card({"weather": "storm", "strikes": {"slow_answer": 3}})
    assert "<td>slow answer</td><td>3</td>" in shown
    assert all(f"<td>&#x27;{name}&#x27;</td>" in shown for name in WEATHERS)
