"""What a notebook says to a person: slips in plain words, names that read like a menu, objects that show themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.config import load_config
from labkit.errors import NotInTime
from labkit.lab import Lab
from labkit.lab_weather import WeatherControl

SEEDED_LAB = Path(__file__).resolve().parents[1] / "widgets" / "seeded_lab.py"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def outcome(client: Any, code: str) -> tuple[list[str], str]:
    """The traceback of a cell as lines without colours, and what it printed."""
    said: list[dict[str, Any]] = []
    client.execute_interactive(code, output_hook=lambda message: said.append(message["content"]), timeout=60)
    lines = [line for content in said for part in content.get("traceback", []) for line in part.splitlines()]
    printed = "".join(content.get("text", "") for content in said)
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines], printed


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """One that has not been started."""
    return Lab(load_config({"data_dir": str(tmp_path)}, environ={}))


@pytest.mark.filterwarnings("ignore")
def test_a_slip_is_answered_with_the_line_and_a_sentence(client: Any) -> None:
    lines, _ = outcome(client, "import labkit\nlabkit.start(sped=60)")
    assert lines[0] == "ConfigError in line 2: labkit.start(sped=60)"
    assert "sped" in lines[1]
    assert "speed" in lines[1]
    assert len(lines) == 3


@pytest.mark.filterwarnings("ignore")
def test_the_whole_traceback_is_kept(client: Any) -> None:
    outcome(client, "import labkit; labkit.start(sped=60)")
    _, printed = outcome(client, "import traceback; traceback.print_last()")
    assert "Traceback" in printed
    assert "config.py" in printed


@pytest.mark.filterwarnings("ignore")
def test_other_peoples_errors_keep_their_traceback(client: Any) -> None:
    lines, _ = outcome(client, "def f():\n    return 1 / 0\nf()")
    assert len(lines) > 5


STORMY_TIME = """
import labkit
labkit.rehearse(
    minutes=25, symbols=("BTCUSDT", "ETHUSDT"), paper={"history_days": 4, "planted_edge": 0.8, "weather": "storm"},
    trader={"warm_up_minutes": 600, "cold_start_labels": 100, "horizon_minutes": 10, "decision_every_minutes": 2},
);
"""


@pytest.mark.filterwarnings("ignore")
def test_a_storm_writes_nothing_into_a_cell(client: Any) -> None:
    lines, printed = outcome(client, STORMY_TIME)
    assert (lines, printed) == ([], "")


MESSAGES = f"""
import runpy, ipywidgets
from labkit.edge.clocks import SystemClock
from labkit.widgets.live_monitor import LiveMonitor
lab = runpy.run_path({str(SEEDED_LAB)!r})["SeededLab"](1, SystemClock())
ended = []
get_ipython().events.register("post_execute", lambda: ended.append(1))
message = {{"content": {{"data": {{"method": "custom", "content": {{"kind": "seen"}}}}}}, "buffers": []}}
for widget in (LiveMonitor(lab), ipywidgets.HTML()):
    widget.comm.handle_msg(message)
    print(len(ended))
    widget.close()
"""


@pytest.mark.filterwarnings("ignore")
def test_a_message_of_a_widget_is_no_end_of_a_cell_at_which_its_plot_is_shown_half_drawn(client: Any) -> None:
    lines, printed = outcome(client, MESSAGES)
    assert (lines, printed.split()) == ([], ["0", "1"]), "a plain widget of ipywidgets is the control"


@pytest.mark.filterwarnings("ignore")
def test_what_is_written_into_a_cell_is_seen(client: Any) -> None:
    assert outcome(client, "import logging; logging.warning('flood')")[1] == "WARNING:root:flood\n"


def test_a_lab_shows_people_only_what_is_meant_for_them(lab: Lab) -> None:
    names = dir(lab)
    assert {"monitor", "why", "prices", "stop"} <= set(names)
    assert not [name for name in names if name.startswith("_")]


@pytest.mark.parametrize("kind", [Lab, WeatherControl])
def test_every_name_on_the_menu_says_what_it_gives(kind: type) -> None:
    public = [(name, member) for name, member in vars(kind).items() if not name.startswith("_")]
    assert [name for name, member in public if not inspect.getdoc(member)] == []


def test_a_lab_shows_what_may_be_asked_of_it_next(lab: Lab) -> None:
    shown = lab._repr_html_()
    assert "stopped" in shown
    for call in re.findall(r"lab\.(\w+)\(", shown):
        assert callable(getattr(lab, call))


@pytest.mark.parametrize(("speed", "shown"), [(60, "60x faster than life"), ("max", "virtual time")])
def test_a_lab_says_how_fast_its_market_is(tmp_path: Path, speed: float | str, shown: str) -> None:
    assert shown in repr(Lab(load_config({"data_dir": str(tmp_path), "speed": speed}, environ={})))


def test_waiting_in_vain_says_how_the_lab_stands(lab: Lab) -> None:
    with pytest.raises(NotInTime, match="no decision within 0 s; the lab is stopped") as caught:
        lab.wait_for("decision", 0)
    assert isinstance(caught.value, TimeoutError)
