"""The first notebook keeps its shape: short, explained, without logic, and comparable where it can be."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.sign import NotebookNotary

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "00_start_here.ipynb"
LOGIC = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Try, ast.With, ast.Lambda, ast.comprehension)


@pytest.fixture(scope="module")
def cells() -> list[Any]:
    return list(nbformat.read(NOTEBOOK, as_version=4).cells)


def is_code(cell: Any) -> bool:
    return bool(cell.cell_type == "code")


def is_volatile(cell: Any) -> bool:
    return "nbval-ignore-output" in cell.metadata.get("tags", [])


def test_it_has_at_most_a_dozen_code_cells(cells: list[Any]) -> None:
    assert 1 <= len([cell for cell in cells if is_code(cell)]) <= 12


def test_a_sentence_stands_before_every_code_cell(cells: list[Any]) -> None:
    assert all(
        not is_code(before) and before.source.strip() for before, cell in itertools.pairwise(cells) if is_code(cell)
    )


def test_no_cell_contains_logic(cells: list[Any]) -> None:
    nodes = [node for cell in cells if is_code(cell) for node in ast.walk(ast.parse(cell.source))]
    assert not [node for node in nodes if isinstance(node, LOGIC)]


def test_what_is_the_same_every_time_is_stored_to_be_compared(cells: list[Any]) -> None:
    compared = [cell for cell in cells if is_code(cell) and not is_volatile(cell)]
    assert compared
    # nbval compares nothing in a cell without an execution count.
    assert all(cell.execution_count is not None and cell.outputs for cell in compared)


def test_jupyter_trusts_it_as_it_is_so_that_its_panels_live_again_after_a_reload(
    cells: list[Any], tmp_path: Path
) -> None:
    notary = NotebookNotary(data_dir=str(tmp_path))
    assert notary.check_cells(nbformat.read(NOTEBOOK, as_version=4))


def test_what_differs_every_time_is_not_stored(cells: list[Any]) -> None:
    assert not [cell.id for cell in cells if is_code(cell) and is_volatile(cell) and cell.outputs]
