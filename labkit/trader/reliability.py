"""Reliability: of all that was said with about this probability, how much came true."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 10


class Reliability(NamedTuple):
    """By rising probability; float64[B] each but `labels`, which is int64[B]."""

    said: NDArray[np.float64]
    """Mean probability."""
    came_true: NDArray[np.float64]
    """Mean label."""
    error: NDArray[np.float64]
    """Standard error of that mean, by the labels' weights, which say how far they overlap."""
    independent: NDArray[np.float64]
    """How many observations the labels are worth: the sum of their weights."""
    labels: NDArray[np.int64]


def reliability(
    said: NDArray[np.float64], came_to: NDArray[np.float64], weight: NDArray[np.float64], *, bins: int = BINS
) -> Reliability:
    """What was said (float64[N]) beside what it came to, in at most `bins` groups of as many labels each.

    Means are weighted. Labels with the same probability are told apart by their order, so groups are never empty
    unless there are fewer labels than groups.
    """
    order = np.argsort(said, kind="stable")
    groups = np.empty(said.size, np.int64)
    groups[order] = np.arange(said.size) * bins // max(1, said.size)
    rows = []
    for number in np.unique(groups):
        inside = groups == number
        own = weight[inside]
        mean = np.average(came_to[inside], weights=own)
        spread = np.average((came_to[inside] - mean) ** 2, weights=own)
        worth = own.sum()
        rows.append((np.average(said[inside], weights=own), mean, (spread / worth) ** 0.5, worth, inside.sum()))
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    said_there, came_true, error, independent, labels = columns
    return Reliability(said_there, came_true, error, independent, labels.astype(np.int64))
