"""What the repository promises about itself: names, layers, one list of dependencies, quiet imports."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import labkit

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

PARTS = {
    "WebSocketMonitor",
    "BinanceClient",
    "DataService",
    "PositionController",
    "SelfLearningTrader",
    "UnifiedScheduler",
    "DailyReporter",
    "Lab",
    "PaperExchange",
}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_public_part_is_there_under_its_name() -> None:
    assert set(labkit.__all__) >= PARTS
    for name in labkit.__all__:
        assert getattr(labkit, name).__name__ == name


def test_importing_labkit_starts_no_thread_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, threading, labkit;"
        "heavy = set('pandas numpy matplotlib numba pyarrow papermill aiohttp IPython'.split()) & set(sys.modules);"
        "print(threading.active_count(), sorted(heavy))"
    )
    assert run_python(code).strip() == "1 []"


def test_starting_a_lab_patches_no_event_loop() -> None:
    code = "import asyncio, sys, labkit.lab; print(asyncio.Task.__module__, 'nest_asyncio' in sys.modules)"
    assert run_python(code).strip() == "_asyncio False"


def test_rooms_look_one_way_only() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_conda_environment_lists_nothing_twice() -> None:
    lines = [line.strip(" -") for line in (ROOT / "environment.yml").read_text().splitlines()]
    own = {re.split(r"[<>=\[; ]", line)[0].lower() for line in lines if line and not line.startswith(("#", "e ", "c "))}
    listed = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    names = {re.split(r"[<>=\[; ]", requirement)[0].lower() for requirement in listed}
    assert "e .[test]" in lines
    assert not own & names
    assert f"python{PROJECT['requires-python']}" in lines


def test_everything_named_by_the_user_is_a_dependency() -> None:
    listed = " ".join([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]])
    for name in [
        "jupyterlab",
        "ipywidgets",
        "websockets",
        "nest-asyncio",
        "pandas",
        "numpy",
        "matplotlib",
        "papermill",
        "pytest",
        "nbval",
    ]:
        assert f"{name}>=" in listed


def test_the_constraints_name_versions_and_no_address() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+", line), line


def test_the_constraints_cover_every_dependency() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for requirement in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]:
        assert re.split(r"[<>=\[; ]", requirement)[0].lower() in pinned, requirement


def test_nothing_stands_at_the_top_that_was_not_agreed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    allowed = {
        "notebooks", "labkit", "data", "tests", "benchmarks", "environment.yml", "pyproject.toml", "Makefile",
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "constraints.txt",
    }  # fmt: skip
    top = {path.split("/")[0] for path in tracked}
    assert {name for name in top if name not in allowed and not name.startswith(".")} == set()


def test_no_module_reads_an_ambient_clock() -> None:
    pattern = re.compile(r"datetime\.(now|utcnow)\(|\btime\.(time|time_ns)\(")
    for path in (ROOT / "labkit").rglob("*.py"):
        if path.name != "clocks.py":
            assert not pattern.search(path.read_text()), path
