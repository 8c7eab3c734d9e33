"""A figure: what was measured against one target, its limit, and whether it holds. All programs here give these."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number. `limit` is the most it may be."""

    target: str
    """Id of the target, e.g. `G7`."""
    name: str
    value: float
    limit: float | None = None
    """None where the number is only told."""
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        allowed = "" if self.limit is None else f"(at most {self.limit:g})"
        verdict = "" if self.holds else "FAILED"
        return f"{self.target:<4}{self.name:<58}{self.value:>12,.6g} {self.unit:<4}{allowed:<18}{verdict}".rstrip()


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed. Raises `ValueError` if there are none."""
    if not values:
        raise ValueError("no values: nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]
