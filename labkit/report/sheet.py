"""Sheet: a DataFrame as a person reads it, in a notebook, in HTML and in plain text.

Units stand under the headings, results are signed and coloured, every text is escaped: what a ledger holds (event
texts, symbol names) can never become markup. Used by the report notebook.
"""

from __future__ import annotations

from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ROWS = 200
ONE_DECIMAL = {"min", "%", "bps", "% of decisions"}
ALWAYS_SIGNED = {"net", "unrealised"}


class Sheet:
    """A table that shows itself.

    Args:
        frame: as made by `labkit.report.tables`; `attrs["units"]` and `attrs["money"]` are used where present.
        empty: the sentence to show instead of a table without rows.
        total: whether the last row is a sum and set apart.
        rows: at most so many are shown; a line below tells how many there are.
    """

    def __init__(self, frame: pd.DataFrame, *, empty: str = "nothing", total: bool = False, rows: int = ROWS) -> None:
        self.frame = frame
        self._empty = empty
        self._total = total
        self._rows = rows

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return f'<p class="labkit-empty">{escape(self._empty)}</p>'
        names = [str(name) for name in self.frame.columns]
        units, texts, wide = self._units(), self._texts(), self._is_text()

        def small(name: str) -> str:
            return f"<small>{escape(units.get(name, '')) or '&nbsp;'}</small>" if units else ""

        head = "".join(
            f'<th class="{_side(text)}">{escape(name)}{small(name)}</th>'
            for name, text in zip(names, wide, strict=True)
        )
        body = "".join(self._row(number, cells, wide) for number, cells in enumerate(texts))
        more = f'<p class="labkit-more">{escape(self._more())}</p>' if self._more() else ""
        return (
            f'<div class="labkit-scroll"><table class="labkit-sheet" style="--letters:{self._letters(texts)}">'
            f"<thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>{more}"
        )

    def __repr__(self) -> str:
        if self.frame.empty:
            return self._empty
        units = self._units()
        heads = [f"{name} [{units[name]}]" if name in units else str(name) for name in self.frame.columns]
        columns = [[head, *column] for head, column in zip(heads, zip(*self._texts(), strict=True), strict=True)]
        padded = [_pad(column, left=text) for column, text in zip(columns, self._is_text(), strict=True)]
        lines = ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]
        return "\n".join([*lines, *([self._more()] if self._more() else [])])

    def _units(self) -> dict[str, str]:
        units: dict[str, str] = self.frame.attrs.get("units", {})
        return units

    def _is_text(self) -> list[bool]:
        """For each column, whether it holds words rather than numbers."""
        from pandas.api.types import is_numeric_dtype

        return [not is_numeric_dtype(self.frame[name]) and bool(self.frame[name].notna().any()) for name in self.frame]

    def _texts(self) -> list[list[str]]:
        money = set(self.frame.attrs.get("money", ()))
        units = self._units()
        shown = self.frame.head(self._rows)
        columns = [
            [
                _text(value, name, units.get(name, ""), money, places)
                for value, places in zip(shown[name], self._places(name), strict=True)
            ]
            for name in shown
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _places(self, name: str) -> list[int]:
        """Decimals for each row of a column: as many as its symbol's longest number there has, so that points align."""
        shown = self.frame.head(self._rows)
        needed = [_places_of(value) for value in shown[name]]
        symbols = list(shown["symbol"]) if "symbol" in shown else [""] * len(needed)
        most = {symbol: max(n for n, s in zip(needed, symbols, strict=True) if s == symbol) for symbol in set(symbols)}
        return [most[symbol] for symbol in symbols] if "symbol" in shown else needed

    def _letters(self, texts: list[list[str]]) -> int:
        """Characters of the longest line, gaps included: the style sheet sets the size of type by it."""
        heads = [[str(name) for name in self.frame.columns], [self._units().get(n, "") for n in self.frame.columns]]
        return sum(2 + max(map(len, column)) for column in zip(*heads, *texts, strict=True))

    def _more(self) -> str:
        count = len(self.frame)
        return f"The first {self._rows} of {count} rows; the ledger holds them all." if count > self._rows else ""

    def _row(self, number: int, cells: list[str], wide: list[bool]) -> str:
        is_total = self._total and number == len(self.frame) - 1
        money = set(self.frame.attrs.get("money", ()))
        written = "".join(
            f'<td class="{_side(text)}{_colour(cell) if name in money else ""}">{escape(cell)}</td>'
            for name, cell, text in zip(self.frame.columns, cells, wide, strict=True)
        )
        return f'<tr class="labkit-total">{written}</tr>' if is_total else f"<tr>{written}</tr>"


def _places_of(value: Any) -> int:
    """Decimals that a float needs; none for anything else."""
    if not isinstance(value, float) or value != value or value.is_integer():
        return 0
    return -int(Decimal(repr(value)).normalize().as_tuple().exponent)


def _text(value: Any, name: str, unit: str, money: set[str], places: int) -> str:
    if value is None or value != value:  # NaN: pandas' way of saying None in a column of numbers
        return "–"
    if isinstance(value, str):
        return value
    if name in money:
        text = f"{value:+,.2f}" if name in ALWAYS_SIGNED and value else f"{value:,.2f}"
    elif unit in ONE_DECIMAL:
        text = f"{value:,.1f}"
    else:
        text = f"{value:,.{places}f}"
    return text.replace("-", "−")


def _pad(column: list[str], *, left: bool) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) if left else cell.rjust(width) for cell in column]


def _side(is_text: bool) -> str:
    return "words" if is_text else "number"


def _colour(cell: str) -> str:
    return " loss" if cell.startswith("−") else " gain" if cell.startswith("+") else ""
