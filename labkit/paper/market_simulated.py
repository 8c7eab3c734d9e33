"""A seeded market: weeks of history behind it, an endless future before it, and a modest planted edge.

One-minute log prices follow the recursion of the self-learning reference, appendix A: a common and an own shock per
symbol, clusters of volatility, a time of day, rare jumps, and a drift that follows past moves (the planted edge), which
tires as it carries prices away from where they began.
Inside a minute the price is a bridge of sixty seconds between open and close; at every second the book quotes around it
and one trade prints at the best bid or ask. Candles are made of those very trades, so that history, klines and ticks
agree to the last digit.

All randomness is drawn in blocks of one UTC day, keyed by seed, day and symbol: whoever asks, in whatever order, for
whatever part, sees the same market; a restart folds the past again in a fraction of a second. A symbol's own shocks do
not depend on which other symbols are simulated, but its state (volatility, momentum) is folded from the beginning of
the remembered history, so another `history_days` is another market.

Simplifications: mark price is the median of price 1, the fair price (for price 2: its 30-second average moves too
slowly to tell them apart) and the last trade; the premium is sampled every minute rather than every five seconds.

Prices in quote asset, quantities in base asset, times in UTC milliseconds. Called by the paper venue.
"""

from __future__ import annotations

import difflib
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.domain.symbol_rules import SymbolRules
from labkit.errors import UnknownSymbol
from labkit.paper.listings import (
    FUNDING_INTERVAL_HOURS,
    MADE_UP_SYMBOLS,
    SIMULATED_STARTS,
    brackets_of,
    simulated_listing,
)
from labkit.paper.market_source import SourceEvent

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Smalls = npt.NDArray[np.int32]
Booleans = npt.NDArray[np.bool_]

MINUTES = DAY_MS // MINUTE_MS
SECONDS = MINUTE_MS // SECOND_MS

MINUTE_VOLATILITY = 1e-3
"""Standard deviation of an ordinary one-minute log return: about 72 % a year."""
CORRELATION = 0.5
"""Share of the variance of returns that all symbols have in common."""
VOLATILITY_SPREAD = 0.35
"""Standard deviation of log volatility."""
VOLATILITY_MEMORY = 2 ** (-1 / MINUTES)
"""Log volatility forgets half of itself in a day."""
VOLATILITY_CORRELATION = 0.8
JUMP_PROBABILITY = 1 / 5_760
"""One jump in four days, per symbol."""
JUMP_SIZE = 8.0
"""Standard deviation of a jump in units of one minute's volatility."""
MOMENTUM_HALF_LIFE_MINUTES = 120
MOMENTUM_GAIN = 1 - 2 ** (-1 / MOMENTUM_HALF_LIFE_MINUTES)
MOMENTUM_SCALE = math.sqrt((2 - MOMENTUM_GAIN) / MOMENTUM_GAIN)
"""Brings the average of past moves to unit variance."""
SHOCK_CLIP = 6.0
TIRING_DISTANCE = 0.5
"""A strong planted momentum feeds itself and would carry prices away by e³ in months. So it tires: it weakens by a
factor e for every such distance (in log price) it has led from where the recursion began; on the way back it does not.
"""

BASIS_MEAN, BASIS_SPREAD = 1e-4, 6e-4
"""Of the futures price over its index, as a fraction: wide enough that funding leaves its resting rate at times."""
BASIS_MEMORY = 2 ** (-1 / 480)
FUNDING_INTERVAL_MS = FUNDING_INTERVAL_HOURS * HOUR_MS
FUNDING_MINUTES = FUNDING_INTERVAL_MS // MINUTE_MS
RESTING_RATE = 1e-4
"""The interest part of the funding rate per interval; the premium counts only where it leaves ±0.05 % around it."""
PREMIUM_DEAD_BAND = 5e-4

LATEST_TRADE_DELAY_MS = 15
REMEMBERED_DAYS = 160
MIDNIGHT_MINUTES = 60
"""Over how many of a day's last minutes the making of the next day is spread."""

_COMMON_DRAWS, _MINUTE_DRAWS, _SECOND_DRAWS, _SIZE_DRAWS = range(4)
"""What a stream of random numbers is for; part of its key."""


@dataclass(frozen=True)
class BarArrays:
    """One-minute bars of one symbol as columns of floats, for statistics: the same bars `history` gives as Decimal."""

    open_time_ms: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quote_volume: Floats
    trade_count: Integers
    taker_buy_volume: Floats
    taker_buy_quote_volume: Floats


@dataclass(frozen=True)
class _State:
    """Where the recursion of one symbol stands at the first moment of a day."""

    log_price: float = 0.0
    log_volatility: float = 0.0
    momentum: float = 0.0
    basis: float = BASIS_MEAN


@dataclass(frozen=True)
class _MinuteBlock:
    """One symbol, one day, minute by minute. `open` and `basis` have one value more: the next day's first."""

    open: Floats
    move: Floats
    jump: Floats
    jump_second: Integers
    volatility: Floats
    flow: Floats
    activity: Floats
    basis: Floats
    funding_rate: Floats
    end: _State


@dataclass(frozen=True)
class _SecondBlock:
    """One symbol, one day, second by second (1440 × 60); prices in ticks, quantities in steps."""

    fair: Floats
    bid: Smalls
    ask: Smalls
    taker_buys: Booleans
    trade_price: Smalls
    trade_quantity: Integers
    trade_delay_ms: Smalls


@dataclass(frozen=True)
class _BarBlock:
    """One symbol, one day of candles; prices in ticks, quantities in steps, quote volumes in ticks × steps."""

    open: Integers
    high: Integers
    low: Integers
    close: Integers
    volume: Integers
    quote_volume: Integers
    taker_buy_volume: Integers
    taker_buy_quote_volume: Integers
    last_fair: float
    """The fair price of the day's last second."""


class SimulatedMarket:
    """A market of made-up prices; implements `MarketSource`.

    Args:
        symbols: listed or made-up symbols (`SIM001USDT` …), in the order in which simultaneous events come.
        seed: of all randomness.
        start_ms: the first minute that is lived through (rounded down to a whole minute); minutes before are history.
        history_days: length of the history.
        planted_edge: momentum drift in units of one minute's volatility; 0 plants none.
        quotes_per_second: quote updates per symbol and market second. Above 1 the prices still move once a second and
            the sizes breathe in between; below 1 seconds are skipped. The trades, and so the candles, stay the same.

    Raises:
        UnknownSymbol: a symbol that is not listed; the message names the nearest one.
    """

    name = "simulated"
    tells_bars = False

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        seed: int,
        start_ms: int,
        history_days: int,
        planted_edge: float,
        quotes_per_second: float,
    ) -> None:
        known = {*SIMULATED_STARTS, *MADE_UP_SYMBOLS}
        for symbol in symbols:
            if symbol not in known:
                near = difflib.get_close_matches(symbol, sorted(known), n=1, cutoff=0.0)
                raise UnknownSymbol(
                    f"{symbol} is not listed; did you mean {near[0]}? Listed: {', '.join(SIMULATED_STARTS)}, "
                    f"and made-up ones from {MADE_UP_SYMBOLS[0]} to {MADE_UP_SYMBOLS[-1]}",
                    field="symbols",
                )
        self.symbols = tuple(symbols)
        self.start_ms = start_ms - start_ms % MINUTE_MS
        self.end_ms: int | None = None
        self.history_start_ms = self.start_ms - history_days * DAY_MS
        edge = (
            f"A momentum drift of {planted_edge:g} (in units of one minute's volatility, half-life "
            f"{MOMENTUM_HALF_LIFE_MINUTES} minutes, weaker where prices have strayed) is planted in it, "
            "so that a learner has something to find."
            if planted_edge
            else "No edge is planted in it."
        )
        self.disclosure = f"Simulated market, seed {seed}: every price is made up. {edge}"
        self._seed = seed
        self._quote_interval_ms = SECOND_MS / quotes_per_second
        shocks = _CommonShocks(seed)
        # One day more than the history, so that every minute has one before it.
        origin_day = self.history_start_ms // DAY_MS - 1
        self._paths = {
            symbol: _Path(
                symbol, shocks, seed=seed, origin_day=origin_day, anchor_ms=self.start_ms, planted_edge=planted_edge
            )
            for symbol in self.symbols
        }

    def rules(self) -> Mapping[str, SymbolRules]:
        return {symbol: path.rules for symbol, path in self._paths.items()}

    def brackets(self) -> Mapping[str, tuple[LeverageBracket, ...]]:
        return {symbol: brackets_of(symbol) for symbol in self.symbols}

    def funding_interval_hours(self, symbol: str) -> int:
        return FUNDING_INTERVAL_HOURS

    def history(self, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
        """Closed one-minute bars with open time in [start_ms, end_ms), from the first remembered minute on.

        The source knows its own future and gives it where asked: it is the caller who knows what time it is.
        """
        path = self._paths[symbol]
        rules = path.rules
        tick, step = rules.tick_size, rules.step_size
        cent = tick * step
        bars: list[Bar] = []
        for day, first, last in self._days(start_ms, end_ms):
            block = path.bars(day)
            columns = (
                block.open,
                block.high,
                block.low,
                block.close,
                block.volume,
                block.quote_volume,
                block.taker_buy_volume,
                block.taker_buy_quote_volume,
            )
            rows = zip(*(column[first:last].tolist() for column in columns), strict=True)
            open_time_ms = day * DAY_MS + first * MINUTE_MS
            for opened, high, low, closed, volume, quote_volume, bought, quote_bought in rows:
                bars.append(
                    Bar(
                        symbol=symbol,
                        interval="1m",
                        open_time_ms=open_time_ms,
                        close_time_ms=open_time_ms + MINUTE_MS - 1,
                        open=opened * tick,
                        high=high * tick,
                        low=low * tick,
                        close=closed * tick,
                        volume=volume * step,
                        quote_volume=quote_volume * cent,
                        trade_count=SECONDS,
                        taker_buy_volume=bought * step,
                        taker_buy_quote_volume=quote_bought * cent,
                    )
                )
                open_time_ms += MINUTE_MS
        return bars

    def history_arrays(self, symbol: str, start_ms: int, end_ms: int) -> BarArrays:
        """The bars of `history` as columns of floats, without the cost of Decimals."""
        path = self._paths[symbol]
        tick, step = float(path.rules.tick_size), float(path.rules.step_size)
        times = [np.empty(0, np.int64)]
        names = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
        units = dict(zip(names, (tick, tick, tick, tick, step, tick * step, step, tick * step), strict=True))
        parts: dict[str, list[Floats]] = {name: [np.empty(0)] for name in names}
        for day, first, last in self._days(start_ms, end_ms):
            block = path.bars(day)
            times.append(day * DAY_MS + np.arange(first, last, dtype=np.int64) * MINUTE_MS)
            for name in names:
                parts[name].append(getattr(block, name)[first:last] * units[name])
        open_time_ms = np.concatenate(times)
        columns = {name: np.concatenate(part) for name, part in parts.items()}
        return BarArrays(
            open_time_ms=open_time_ms, trade_count=np.full(len(open_time_ms), SECONDS, np.int64), **columns
        )

    def funding_arrays(self, symbol: str, start_ms: int, end_ms: int) -> tuple[Integers, Floats]:
        """Settlement times (UTC ms) in [start_ms, end_ms) and the rates settled: those told in the minute before."""
        start_ms = max(start_ms, self.history_start_ms)
        times = np.arange(-(-start_ms // FUNDING_INTERVAL_MS) * FUNDING_INTERVAL_MS, end_ms, FUNDING_INTERVAL_MS)
        before = [_place(time_ms - MINUTE_MS) for time_ms in times.tolist()]
        path = self._paths[symbol]
        return times, np.array([path.minutes(day).funding_rate[minute] for day, minute in before])

    def events(self, from_ms: int) -> Iterator[SourceEvent]:
        """All events at or after `from_ms` (or the start, if later), by time, then symbol; without end."""
        from_ms = max(from_ms, self.start_ms)
        minute_ms = from_ms - from_ms % MINUTE_MS
        for event in self._minute_events(minute_ms):
            if event.time_ms >= from_ms:
                yield event
        while True:
            minute_ms += MINUTE_MS
            self._prepare_midnight(minute_ms)
            yield from self._minute_events(minute_ms)

    def _prepare_midnight(self, minute_ms: int) -> None:
        """In each of a day's last minutes, make the next day of some of the symbols."""
        day, minute = _place(minute_ms)
        turn = minute - (MINUTES - MIDNIGHT_MINUTES)
        if turn >= 0:
            for path in list(self._paths.values())[turn::MIDNIGHT_MINUTES]:
                path.prepare(day + 1)

    def _minute_events(self, minute_ms: int) -> list[SourceEvent]:
        # Symbols are phase-shifted inside the shortest time between two quotes, so that no quote leaves its minute.
        spacing = min(SECOND_MS, self._quote_interval_ms)
        events: list[SourceEvent] = []
        for number, path in enumerate(self._paths.values()):
            phase_ms = int(number * spacing / len(self._paths))
            events += path.marks(minute_ms)
            events += path.quotes(minute_ms, phase_ms, self._quote_interval_ms)
            events += path.trades(minute_ms, phase_ms, int(spacing) - 1)
        events.sort(key=attrgetter("time_ms"))
        return events

    def _days(self, start_ms: int, end_ms: int) -> Iterator[tuple[int, int, int]]:
        """(day, first minute, last minute + 1) of the minutes that open in [start_ms, end_ms) and are remembered."""
        first = -(-max(start_ms, self.history_start_ms) // MINUTE_MS)
        last = -(-end_ms // MINUTE_MS)
        while first < last:
            day, minute = divmod(first, MINUTES)
            stop = min(MINUTES, minute + last - first)
            yield day, minute, stop
            first += stop - minute


def _random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


class _CommonShocks:
    """What moves all symbols at once, by day: returns and log volatility."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.of_day = lru_cache(maxsize=REMEMBERED_DAYS)(self._of_day)

    def _of_day(self, day: int) -> tuple[Floats, Floats]:
        shocks = _random(self._seed, day, 0, _COMMON_DRAWS).standard_normal((2, MINUTES))
        return shocks[0], shocks[1]


class _Path:
    """One symbol's way through time. Days are counted from 1970; the recursion begins at `origin_day`."""

    def __init__(
        self, symbol: str, common: _CommonShocks, *, seed: int, origin_day: int, anchor_ms: int, planted_edge: float
    ) -> None:
        self.symbol = symbol
        self.rules, self._start = simulated_listing(symbol)
        self._tick, self._step = float(self.rules.tick_size), float(self.rules.step_size)
        self._common = common
        self._key = (seed, zlib.crc32(symbol.encode()))
        self._origin_day = origin_day
        self._anchor_ms = anchor_ms
        self._edge = planted_edge
        self._states = [_State()]
        self._offset: float | None = None
        lower = symbol.lower()
        self._quote_stream, self._trade_stream = f"{lower}@bookTicker", f"{lower}@aggTrade"
        self._mark_stream = f"{lower}@markPrice@1s"
        self.minutes = lru_cache(maxsize=REMEMBERED_DAYS)(self._minutes)
        # Megabytes a day: of hundreds of symbols not more than the day that is lived through can be kept, and the next
        # one when it is near.
        self._lived: dict[int, _SecondBlock] = {}
        self.bars = lru_cache(maxsize=REMEMBERED_DAYS)(self._bars)

    def _minutes(self, day: int) -> _MinuteBlock:
        index = day - self._origin_day
        while len(self._states) <= index:
            self._states.append(self._fold(self._origin_day + len(self._states) - 1, self._states[-1]).end)
        return self._fold(day, self._states[index])

    def _fold(self, day: int, state: _State) -> _MinuteBlock:
        """Appendix A for one day."""
        seed, symbol_key = self._key
        random = _random(seed, day, symbol_key, _MINUTE_DRAWS)
        own, own_volatility, jump_shock, volume_shock, flow_shock, basis_shock = random.standard_normal((6, MINUTES))
        jump_chance, jump_place = random.random((2, MINUTES))
        common, common_volatility = self._common.of_day(day)

        log_volatility = _decay(
            state.log_volatility,
            VOLATILITY_MEMORY,
            math.sqrt(1 - VOLATILITY_MEMORY**2)
            * VOLATILITY_SPREAD
            * (
                math.sqrt(VOLATILITY_CORRELATION) * common_volatility
                + math.sqrt(1 - VOLATILITY_CORRELATION) * own_volatility
            ),
        )[1:]
        time_of_day = 1 + 0.3 * np.cos(2 * np.pi * (np.arange(MINUTES) - 840) / MINUTES)
        volatility = MINUTE_VOLATILITY * np.exp(log_volatility - VOLATILITY_SPREAD**2 / 2) * time_of_day
        shock = math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * own
        jump = np.where(jump_chance < JUMP_PROBABILITY, JUMP_SIZE * jump_shock, 0.0)

        edge, gain, scale, tanh, exp = self._edge, MOMENTUM_GAIN, MOMENTUM_SCALE, math.tanh, math.exp
        momentum, price = state.momentum, state.log_price
        drifts, log_prices = [], [price]
        for moved, size in zip((shock + jump).tolist(), volatility.tolist(), strict=True):
            drift = edge * tanh(momentum * scale)
            if drift * price > 0:
                drift *= exp(-abs(price) / TIRING_DISTANCE)
            total = drift + moved
            price += size * total
            momentum += gain * (max(-SHOCK_CLIP, min(SHOCK_CLIP, total)) - momentum)
            drifts.append(drift)
            log_prices.append(price)
        standardised = np.array(drifts) + shock

        basis = _decay(
            state.basis - BASIS_MEAN, BASIS_MEMORY, math.sqrt(1 - BASIS_MEMORY**2) * BASIS_SPREAD * basis_shock
        )
        basis += BASIS_MEAN
        return _MinuteBlock(
            open=np.array(log_prices),
            move=volatility * standardised,
            jump=volatility * jump,
            jump_second=(jump_place * SECONDS).astype(np.int64),
            volatility=volatility,
            flow=np.tanh(0.3 * np.clip(standardised + jump, -SHOCK_CLIP, SHOCK_CLIP) + 0.9 * flow_shock),
            activity=np.exp(0.5 * log_volatility + 0.4 * volume_shock),
            basis=basis,
            funding_rate=_funding_rates(basis[:-1], half_spread=self._start.spread_bps / 2e4),
            end=_State(price, float(log_volatility[-1]), momentum, float(basis[-1])),
        )

    def _level(self) -> float:
        """What is added to log prices so that the listed starting price stands at the first lived moment."""
        if self._offset is None:
            day, in_day_ms = divmod(self._anchor_ms, DAY_MS)
            self._offset = math.log(self._start.price) - float(self.minutes(day).open[in_day_ms // MINUTE_MS])
        return self._offset

    def seconds(self, day: int) -> _SecondBlock:
        """The day that is lived through now; days before it are let go."""
        self.prepare(day)
        if len(self._lived) > 1:
            self._lived = {kept: self._lived[kept] for kept in (day, day + 1) if kept in self._lived}
        return self._lived[day]

    def prepare(self, day: int) -> None:
        """Make a day ahead of time: of hundreds of symbols all at once takes seconds in which nothing else happens."""
        if day not in self._lived:
            self._lived[day] = self._seconds(day)

    def _seconds(self, day: int) -> _SecondBlock:
        minutes = self.minutes(day)
        seed, symbol_key = self._key
        random = _random(seed, day, symbol_key, _SECOND_DRAWS)
        shape = (MINUTES, SECONDS)
        steps, spread_noise, size_noise = random.standard_normal((3, *shape))
        side = random.random(shape)
        delay_ms = random.integers(1, LATEST_TRADE_DELAY_MS, shape, endpoint=True)

        volatility = minutes.volatility[:, None]
        second_volatility = volatility / math.sqrt(SECONDS)
        second = np.arange(SECONDS)
        elapsed = (second + 1) / SECONDS
        walk = np.cumsum(steps, axis=1)
        bridge = walk - walk[:, -1:] * elapsed
        moved = minutes.move[:, None] * elapsed + second_volatility * bridge
        moved += np.where(second >= minutes.jump_second[:, None], minutes.jump[:, None], 0.0)
        fair = np.exp(minutes.open[:-1, None] + self._level() + moved)

        in_ticks = fair / self._tick
        breath = (volatility / MINUTE_VOLATILITY) ** 0.8
        spread = np.maximum(
            1.0, np.rint(in_ticks * (self._start.spread_bps / 1e4) * breath * np.exp(0.35 * spread_noise))
        )
        bid = np.maximum(1.0, np.rint(in_ticks - spread / 2)).astype(np.int32)
        ask = bid + spread.astype(np.int32)

        last_second = np.diff(moved, axis=1, prepend=0.0) / second_volatility
        taker_buys = side < 0.5 + 0.25 * minutes.flow[:, None] + 0.2 * np.tanh(0.5 * last_second)
        notional = self._start.minute_notional / SECONDS * minutes.activity[:, None] * np.exp(0.9 * size_noise - 0.405)
        quantity = np.maximum(1.0, np.rint(notional / fair / self._step)).astype(np.int64)
        return _SecondBlock(
            fair, bid, ask, taker_buys, np.where(taker_buys, ask, bid), quantity, delay_ms.astype(np.int32)
        )

    def _second_before(self, day: int, minute: int) -> tuple[float, int]:
        """The fair price, and the price traded at in ticks, in the last second before a minute."""
        if minute == 0 and day - 1 not in self._lived:
            before = self.bars(day - 1)
            return before.last_fair, int(before.close[-1])
        seconds = self.seconds(day) if minute else self._lived[day - 1]
        return float(seconds.fair[minute - 1, -1]), int(seconds.trade_price[minute - 1, -1])

    def _bars(self, day: int) -> _BarBlock:
        # Bars are asked for of days long gone as well: they must not take the place of the day that is lived through.
        seconds = self._lived.get(day) or self._seconds(day)
        price, quantity, buys = seconds.trade_price.astype(np.int64), seconds.trade_quantity, seconds.taker_buys
        quote = price * quantity
        return _BarBlock(
            open=price[:, 0].copy(),
            high=price.max(axis=1),
            low=price.min(axis=1),
            close=price[:, -1].copy(),
            volume=quantity.sum(axis=1),
            quote_volume=quote.sum(axis=1),
            taker_buy_volume=np.where(buys, quantity, 0).sum(axis=1),
            taker_buy_quote_volume=np.where(buys, quote, 0).sum(axis=1),
            last_fair=float(seconds.fair[-1, -1]),
        )

    def quotes(self, minute_ms: int, phase_ms: int, interval_ms: float) -> list[SourceEvent]:
        """The best bid and ask every `interval_ms`, with sizes that thin out when prices move fast."""
        day, minute = _place(minute_ms)
        seconds = self.seconds(day)
        count = math.ceil(MINUTE_MS / interval_ms)
        seed, symbol_key = self._key
        noise = _random(seed, minute_ms // MINUTE_MS, symbol_key, _SIZE_DRAWS).standard_normal((2, count))
        calm = (self.minutes(day).volatility[minute] / MINUTE_VOLATILITY) ** -0.7
        typical = self._start.depth_notional * calm / seconds.fair[minute, 0] / self._step
        sizes = np.maximum(1.0, np.rint(typical * np.exp(0.8 * noise - 0.32))).astype(np.int64)
        bids, asks = seconds.bid[minute].tolist(), seconds.ask[minute].tolist()
        tick, step, symbol, stream = self.rules.tick_size, self.rules.step_size, self.symbol, self._quote_stream
        events = []
        for number, (bid_size, ask_size) in enumerate(zip(*sizes.tolist(), strict=True)):
            offset_ms = int(number * interval_ms)
            second = offset_ms // SECOND_MS
            time_ms = minute_ms + phase_ms + offset_ms
            quote = Quote(
                symbol,
                bids[second] * tick,
                bid_size * step,
                asks[second] * tick,
                ask_size * step,
                time_ms,  # as update id: it only has to grow
                time_ms,
            )
            events.append(SourceEvent(time_ms, stream, quote))
        return events

    def trades(self, minute_ms: int, phase_ms: int, latest_delay_ms: int) -> list[SourceEvent]:
        """One trade a second, shortly after the second's first quote, at its bid or its ask."""
        day, minute = _place(minute_ms)
        seconds = self.seconds(day)
        tick, step, symbol, stream = self.rules.tick_size, self.rules.step_size, self.symbol, self._trade_stream
        trade_id = minute_ms // SECOND_MS
        events = []
        for second, (price, quantity, taker_buys, delay_ms) in enumerate(
            zip(
                seconds.trade_price[minute].tolist(),
                seconds.trade_quantity[minute].tolist(),
                seconds.taker_buys[minute].tolist(),
                seconds.trade_delay_ms[minute].tolist(),
                strict=True,
            )
        ):
            time_ms = minute_ms + second * SECOND_MS + phase_ms + min(delay_ms, latest_delay_ms)
            trade = Trade(symbol, trade_id + second, price * tick, quantity * step, not taker_buys, time_ms, time_ms)
            events.append(SourceEvent(time_ms, stream, trade))
        return events

    def marks(self, minute_ms: int) -> list[SourceEvent]:
        """Mark price, index price and funding rate at every whole second, from what was known just before it."""
        day, minute = _place(minute_ms)
        # Asked first: at midnight the day before is still the one that is kept.
        fair_before, price_before = self._second_before(day, minute)
        seconds, block = self.seconds(day), self.minutes(day)
        fair = np.concatenate(([fair_before], seconds.fair[minute, :-1]))
        last = np.concatenate(([price_before], seconds.trade_price[minute, :-1])) * self._tick
        basis = np.linspace(block.basis[minute], block.basis[minute + 1], SECONDS, endpoint=False)
        rate = float(block.funding_rate[minute])
        index = fair * np.exp(-basis)
        next_funding_ms = (minute_ms // FUNDING_INTERVAL_MS + 1) * FUNDING_INTERVAL_MS
        remaining = (next_funding_ms - minute_ms - np.arange(SECONDS) * SECOND_MS) / FUNDING_INTERVAL_MS
        mark = np.sort(np.stack((index * (1 + rate * remaining), fair, last)), axis=0)[1]
        exact_rate = round(rate * 1e8) * _EIGHT_DECIMALS
        symbol, stream = self.symbol, self._mark_stream
        events = []
        for second, (mark_units, index_units) in enumerate(zip(_in_units(mark), _in_units(index), strict=True)):
            time_ms = minute_ms + second * SECOND_MS
            fact = MarkPrice(
                symbol,
                mark_units * _EIGHT_DECIMALS,
                index_units * _EIGHT_DECIMALS,
                exact_rate,
                next_funding_ms,
                time_ms,
            )
            events.append(SourceEvent(time_ms, stream, fact))
        return events


_EIGHT_DECIMALS = Decimal("0.00000001")


def _in_units(prices: Floats) -> list[int]:
    """Prices as whole numbers of 1e-8."""
    units: list[int] = np.rint(prices * 1e8).astype(np.int64).tolist()
    return units


def _place(minute_ms: int) -> tuple[int, int]:
    """Day since 1970 and minute of the day."""
    day, in_day_ms = divmod(minute_ms, DAY_MS)
    return day, in_day_ms // MINUTE_MS


def _decay(start: float, memory: float, shocks: Floats) -> Floats:
    """x₀ = start, xₜ₊₁ = memory · xₜ + shockₜ: one value more than there are shocks."""
    values = [start]
    for shock in shocks.tolist():
        values.append(memory * values[-1] + shock)
    return np.array(values)


def _funding_rates(basis: Floats, *, half_spread: float) -> Floats:
    """The funding rate being accrued in each minute of a day, a fraction per interval, on its grid of 1e-8.

    Premium samples of the running interval weigh the more the later they are; the rate is the mean premium brought
    towards the interest rate by at most 0.05 % (protocol reference §7.3). The caps of ±0.3 % and ±2 % are out of reach.
    """
    premium = np.sign(basis) * np.maximum(np.abs(basis) - half_spread, 0.0)
    by_interval = premium.reshape(-1, FUNDING_MINUTES)
    weights = np.arange(1, FUNDING_MINUTES + 1)
    mean = np.cumsum(by_interval * weights, axis=1) / np.cumsum(weights)
    rate = mean + np.clip(RESTING_RATE - mean, -PREMIUM_DEAD_BAND, PREMIUM_DEAD_BAND)
    return np.round(rate.reshape(-1), 8)
