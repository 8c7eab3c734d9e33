"""A lab and its weather as the last line of a cell."""

from __future__ import annotations

from typing import Any

from labkit.paper.weather.script import WEATHERS
from labkit.widgets.lab_card import lab_card, weather_card
from labkit.widgets.view_parts import page_table


def test_the_card_of_a_lab_names_its_state_its_folder_and_its_equity(lab: Any) -> None:
    shown = lab_card(lab.snapshot(), "/data/<mine>")
    assert "running" in shown
    assert "/data/&lt;mine&gt;" in shown
    assert "Equity" in shown


def test_the_card_of_the_weather_counts_what_struck_and_lists_what_there_is() -> None:
    shown = weather_card({"weather": "storm", "strikes": {"slow_answer": 3}})
    assert ">slow answer</td><td>3</td>" in shown
    assert all(f">&#x27;{name}&#x27;</td>" in shown for name in WEATHERS)


def test_words_of_a_table_stand_on_the_left_and_figures_where_jupyter_puts_them() -> None:
    shown = page_table(("Level", "Price"), [("stop", "91.5"), ("target", "–")])
    assert '<td style="text-align:left">stop</td><td>91.5</td>' in shown
    assert '<th style="text-align:left">Level</th><th>Price</th>' in shown
