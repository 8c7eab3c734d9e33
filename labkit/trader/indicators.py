"""Well-known indicators one bar at a time, each keeping no more than its window: for what decides as the bars come.

Each gives NaN until it has seen enough, then to within 1e-9 what TA-Lib gives for the same bars from the same first bar
(`research.indicators` computes whole tables with it): the same definition, the same first value, so there is no
warm-up to match beyond starting at the same bar. Prices in quote asset. Plain Python; the trader's own features, with
half-lives that no whole period has, are compiled in `trader.features`.
"""

from __future__ import annotations

import math
from collections import deque

from labkit.errors import ConfigError

_NOTHING = 1e-14
"""Smaller is zero, as in TA-Lib."""


def _period(period: int, least: int = 2) -> int:
    if period < least:
        raise ConfigError(f"period {period}: must be at least {least}", field="period")
    return period


class Ema:
    """Exponential moving average, gain 2 / (period + 1); its first value is the plain mean of `period` values."""

    def __init__(self, period: int) -> None:
        self._period = _period(period)
        self._gain = 2.0 / (period + 1)
        self._seen, self._sum = 0, 0.0
        self.value = math.nan

    def update(self, value: float) -> float:
        """Take the next value; returns the average."""
        self._seen += 1
        if self._seen <= self._period:
            self._sum += value
            if self._seen == self._period:
                self.value = self._sum / self._period
        else:
            self.value = (value - self.value) * self._gain + self.value
        return self.value


class Wilder:
    """Wilder's smoothing, gain 1 / period; its first value is the plain mean of `period` values."""

    def __init__(self, period: int) -> None:
        self._period = _period(period, 1)
        self._seen, self._sum = 0, 0.0
        self.value = math.nan

    def update(self, value: float) -> float:
        """Take the next value; returns the average."""
        self._seen += 1
        if self._seen <= self._period:
            self._sum += value
            if self._seen == self._period:
                self.value = self._sum / self._period
        else:
            self.value = (self.value * (self._period - 1) + value) / self._period
        return self.value


class Rsi:
    """Wilder's relative strength index, 0 to 100; known from bar `period` + 1 on, 0 where nothing moved."""

    def __init__(self, period: int = 14) -> None:
        self._gains, self._losses = Wilder(_period(period)), Wilder(period)
        self._before = math.nan

    def update(self, close: float) -> float:
        """Take the next close; returns the index."""
        change, self._before = close - self._before, close
        if math.isnan(change):
            return math.nan
        gain, loss = self._gains.update(max(change, 0.0)), self._losses.update(max(-change, 0.0))
        both = gain + loss
        if math.isnan(both):
            return math.nan
        return 100.0 * (gain / both) if both >= _NOTHING else 0.0


class Atr:
    """Wilder's average true range, in quote asset; known from bar `period` + 1 on."""

    def __init__(self, period: int = 14) -> None:
        self._average = Wilder(period)
        self._before = math.nan

    def update(self, high: float, low: float, close: float) -> float:
        """Take the next bar; returns the average range."""
        before, self._before = self._before, close
        if math.isnan(before):
            return math.nan
        return self._average.update(max(high - low, abs(high - before), abs(low - before)))


class Macd:
    """Moving average convergence and divergence: the line, its signal and their difference.

    As in TA-Lib both averages begin together, at bar `slow`, and all three are known from the signal's first value on.
    """

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9) -> None:
        if fast >= slow:
            raise ConfigError(f"fast {fast}: must be below slow {slow}", field="fast")
        self._fast, self._slow, self._signal = Ema(fast), Ema(slow), Ema(signal)
        self._wait = slow - fast

    def update(self, close: float) -> tuple[float, float, float]:
        """Take the next close; returns line, signal, difference."""
        slow = self._slow.update(close)
        if self._wait:
            self._wait -= 1
            return math.nan, math.nan, math.nan
        line = self._fast.update(close) - slow
        if math.isnan(line):
            return math.nan, math.nan, math.nan
        signal = self._signal.update(line)
        return (line, signal, line - signal) if not math.isnan(signal) else (math.nan, math.nan, math.nan)


class Deviation:
    """Standard deviation of the last `period` values (population), in their unit; and their mean.

    Summed anew over the window each time: running sums of squares lose all digits where prices stand still.
    """

    def __init__(self, period: int = 5) -> None:
        self._period = _period(period)
        self._values: deque[float] = deque(maxlen=period)
        self.mean = math.nan

    def update(self, value: float) -> float:
        """Take the next value; returns the deviation."""
        self._values.append(value)
        if len(self._values) < self._period:
            return math.nan
        self.mean = mean = math.fsum(self._values) / self._period
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self._values) / self._period)


class Bollinger:
    """Bollinger bands around the plain mean of `period` closes: upper, middle, lower, in quote asset."""

    def __init__(self, period: int = 20, deviations: float = 2.0) -> None:
        self._deviation = Deviation(period)
        self._deviations = deviations

    def update(self, close: float) -> tuple[float, float, float]:
        """Take the next close; returns upper, middle and lower band."""
        width = self._deviation.update(close) * self._deviations
        middle = self._deviation.mean
        return middle + width, middle, middle - width


class Momentum:
    """By how much the value has changed over `period` bars, in its unit."""

    def __init__(self, period: int = 10) -> None:
        self._values: deque[float] = deque(maxlen=_period(period, 1) + 1)

    def update(self, value: float) -> float:
        """Take the next value; returns the change."""
        self._values.append(value)
        return value - self._values[0] if len(self._values) == self._values.maxlen else math.nan


class RateOfChange(Momentum):
    """By how many percent the value has changed over `period` bars."""

    def update(self, value: float) -> float:
        """Take the next value; returns the change in percent."""
        if math.isnan(super().update(value)):
            return math.nan
        return (value / self._values[0] - 1.0) * 100.0 if self._values[0] != 0.0 else 0.0
