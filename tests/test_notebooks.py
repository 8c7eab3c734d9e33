"""What the notebooks promise as files: short, a sentence before each cell, no logic, outputs that any page can show."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Notebook = dict[str, Any]

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.name != "90_daily_report.ipynb"]
"""The daily report is a page that is written every day: as long as a day needs, and no lesson."""

MOST_CODE_CELLS = 14
MOST_CHARACTERS = 300_000
"""A notebook is read as a change, and opened over a slow line."""
LIVING = re.compile(r"application/vnd\.jupyter\.widget|application/javascript")
"""Outputs that are dead text, or need trust, on every page but the one they were made on."""
LOGIC = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.AsyncFor, ast.While, ast.If, ast.Try, ast.With,
    ast.AsyncWith, ast.Match,
)  # fmt: skip
IPYTHON_LINE = re.compile(r"^\s*[%!].*$", re.MULTILINE)


def read(path: Path) -> Notebook:
    notebook: Notebook = json.loads(path.read_text())
    return notebook


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def tagged(cell: dict[str, Any], tag: str) -> bool:
    return tag in cell["metadata"].get("tags", [])


def living_outputs(notebook: Notebook) -> list[str]:
    """The kinds of output, and the saved widget state, that need a running kernel or a trusted page."""
    kinds = [kind for cell in code_cells(notebook) for output in cell["outputs"] for kind in output.get("data", {})]
    return [kind for kind in kinds if LIVING.match(kind)] + ["metadata.widgets"] * ("widgets" in notebook["metadata"])


def unannounced_cells(notebook: Notebook) -> list[str]:
    """Code cells that no sentence stands before."""
    pairs = zip([None, *notebook["cells"]], notebook["cells"], strict=False)
    return [
        "".join(cell["source"])
        for before, cell in pairs
        if cell["cell_type"] == "code"
        and not (before and before["cell_type"] == "markdown" and "".join(before["source"]).rstrip().endswith("."))
    ]


def cells_with_logic(notebook: Notebook) -> list[str]:
    """Code cells that decide, repeat or define something; what a reader shall write himself is tagged so."""
    sources = ["".join(cell["source"]) for cell in code_cells(notebook) if not tagged(cell, "your-own-code")]
    return [
        source
        for source in sources
        if any(isinstance(node, LOGIC) for node in ast.walk(ast.parse(IPYTHON_LINE.sub("", source))))
    ]


def is_too_long(notebook: Notebook) -> list[str]:
    count = len(code_cells(notebook))
    return [f"{count} code cells"] if count > MOST_CODE_CELLS else []


def is_too_heavy(notebook: Notebook) -> list[str]:
    count = len(json.dumps(notebook, indent=1, ensure_ascii=False))
    return [f"{count:,} characters"] if count > MOST_CHARACTERS else []


def without_language(notebook: Notebook) -> list[str]:
    """What an editor needs to choose kernel and colours without asking."""
    wanted = {"kernelspec": ("name", "display_name", "language"), "language_info": ("name", "file_extension")}
    return [
        f"{section}.{name}"
        for section, names in wanted.items()
        for name in names
        if not notebook["metadata"].get(section, {}).get(name)
    ]


def timings(notebook: Notebook) -> list[str]:
    """Cells that keep when they ran: a new run would then differ everywhere."""
    return ["".join(cell["source"]) for cell in code_cells(notebook) if "execution" in cell["metadata"]]


GATES: dict[str, tuple[Callable[[Notebook], list[str]], list[Path]]] = {
    "shows its outputs on any page": (living_outputs, NOTEBOOKS),
    "says a sentence before each cell": (unannounced_cells, LESSONS),
    "holds no logic": (cells_with_logic, NOTEBOOKS),
    "is short": (is_too_long, LESSONS),
    "is light": (is_too_heavy, NOTEBOOKS),
    "says its language": (without_language, NOTEBOOKS),
    "keeps no timings": (timings, NOTEBOOKS),
}


@pytest.mark.parametrize(
    ("promise", "path"), [(promise, path) for promise, (_, paths) in GATES.items() for path in paths],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)  # fmt: skip
def test_a_notebook_keeps_its_promises(promise: str, path: Path) -> None:
    assert GATES[promise][0](read(path)) == []


def spoil_outputs(notebook: Notebook) -> None:
    kind = "application/vnd.jupyter.widget-view+json"
    code_cells(notebook)[0]["outputs"] = [{"output_type": "display_data", "data": {kind: {}}, "metadata": {}}]


def spoil_state(notebook: Notebook) -> None:
    notebook["metadata"]["widgets"] = {}


def spoil_sentence(notebook: Notebook) -> None:
    notebook["cells"][0]["source"] = ["## A heading"]


def spoil_order(notebook: Notebook) -> None:
    del notebook["cells"][0]


def spoil_logic(notebook: Notebook) -> None:
    code_cells(notebook)[0]["source"] = ["import labkit\n", "if labkit:\n", "    print(1)"]


def spoil_length(notebook: Notebook) -> None:
    notebook["cells"] *= MOST_CODE_CELLS + 1


def spoil_weight(notebook: Notebook) -> None:
    code_cells(notebook)[0]["source"] = ["1" * MOST_CHARACTERS]


def spoil_language(notebook: Notebook) -> None:
    del notebook["metadata"]["language_info"]["file_extension"]


def spoil_timings(notebook: Notebook) -> None:
    code_cells(notebook)[0]["metadata"]["execution"] = {"iopub.execute_input": "2026-01-05T00:00:00Z"}


FAULTLESS: Notebook = {
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": ["**Look.** At the number."]},
        {"cell_type": "code", "metadata": {}, "source": ["[n for n in (1, 2) if n]"], "outputs": []},
    ],
    "metadata": {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python", "file_extension": ".py"},
    },
}


@pytest.mark.parametrize("gate", [gate for gate, _ in GATES.values()])
def test_no_gate_is_shut_to_a_faultless_notebook(gate: Callable[[Notebook], list[str]]) -> None:
    assert gate(FAULTLESS) == []


@pytest.mark.parametrize(
    ("gate", "spoil"),
    [
        (living_outputs, spoil_outputs),
        (living_outputs, spoil_state),
        (unannounced_cells, spoil_sentence),
        (unannounced_cells, spoil_order),
        (cells_with_logic, spoil_logic),
        (is_too_long, spoil_length),
        (is_too_heavy, spoil_weight),
        (without_language, spoil_language),
        (timings, spoil_timings),
    ],
)
def test_a_gate_finds_what_it_is_there_for(
    gate: Callable[[Notebook], list[str]], spoil: Callable[[Notebook], None]
) -> None:
    spoilt = copy.deepcopy(FAULTLESS)
    spoil(spoilt)
    assert gate(spoilt)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_under_nbval_keeps_outputs_to_be_compared_with(path: Path) -> None:
    compared = [
        cell
        for cell in code_cells(read(path))
        if not tagged(cell, "nbval-ignore-output") and cell["execution_count"] is not None
    ]
    assert any(cell["outputs"] for cell in compared), "strict nbval would compare nothing"
