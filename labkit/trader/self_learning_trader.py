"""SelfLearningTrader: decides once a minute and learns from every bracket it imagined, traded or not.

It is driven from outside: `live_through` history once, then `step` for every closed minute. Both take the very same
compiled step, so its state after any minutes is the same bits however it lived them. It holds no money and knows no
orders; it answers with a `Decision` for each symbol whose turn it is. Times are UTC milliseconds, prices quote asset.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from labkit.config import Config, TraderConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import LEARNER, Decision, Label, VirtualPosition
from labkit.domain.market_events import Bar, MarkPrice, Quote
from labkit.domain.snapshot import LearningRow
from labkit.errors import LocalProtocolError, RemoteProtocolError
from labkit.trader.sizing import bars_to_arrays, bars_to_rows, quote_to_floats

if TYPE_CHECKING:
    from labkit.trader.policies import Policy, PolicyDesk
    from labkit.trader.receipts import Look

STATE_VERSION = 3
_GAP_RATE = 0.1
"""Weight of the newest execution in the mean execution gap of a symbol."""
LABELS_KEPT = 50_000
"""For whoever never takes them."""


class PriceView(Protocol):
    """What the trader may ask of a WebSocketMonitor."""

    def get_price(self, symbol: str) -> object: ...


class StateHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """First line of a stored state: everything that must fit before its bytes may be believed."""

    format: str = "labkit-trader-state"
    version: int
    symbols: tuple[str, ...]
    policy: str
    """Whose probabilities its slope and skill are about."""
    learning: dict[str, float]
    """Settings that shape what is learned; costs and sizes may change between runs."""
    layout: str
    sha256: str
    policy_bytes: int = 0
    """So many at the end are the policy's own memory."""


class SelfLearningTrader:
    """The trader of one lab.

    `config.trader` says what it believes about time, cost and risk; `config.TRADING_SYMBOLS` what it looks at.
    `websocket_monitor` is kept for convenience in a notebook; no decision reads it. `policy` speaks in place of the
    learner, which goes on learning beside it.
    """

    def __init__(
        self, config: Config, websocket_monitor: PriceView | None = None, *, policy: Policy | None = None
    ) -> None:
        # numba takes half a second to import: whoever only imports labkit shall not wait for it.
        from labkit.trader import learner, policies, receipts, state, step
        from labkit.trader import policy as money

        self.config = config
        self.websocket_monitor = websocket_monitor
        self.symbols: tuple[str, ...] = tuple(config.TRADING_SYMBOLS)
        self._learner, self._policy, self._receipts, self._states, self._step = learner, money, receipts, state, step
        self._desk = None if policy is None else policies.PolicyDesk(policy, self.symbols)
        self._trader: TraderConfig = config.trader
        self._settings = state.settings_of(config.trader, len(self.symbols))
        self._state = state.new_state(self._settings, len(self.symbols))
        self._scratch = step.scratch()
        self._foreign = step.nobody_else(len(self.symbols))
        self._last_price: dict[str, float] = {}
        self._shown: tuple[VirtualPosition, ...] | None = None
        """What `virtual_positions` last said; None once something has changed."""
        self._labels: deque[Label] = deque(maxlen=LABELS_KEPT)

    # -- living ---------------------------------------------------------------------------------------------------

    def live_through(self, bars: Mapping[str, Sequence[Bar]]) -> int:
        """Live through closed one-minute bars without deciding; returns the minutes lived.

        Minutes that were lived already are left out, so history may overlap. Missing minutes are counted and the
        state carries on.
        """
        return self.live_through_arrays(*bars_to_arrays(bars, self.symbols))

    def live_through_arrays(self, open_time_ms: NDArray[np.int64], ohlcv: NDArray[np.float64]) -> int:
        """As `live_through`, from open times (UTC ms, rising, int64[T]) and rows (float64[T, symbols, 6]).

        A row is open, high, low, close, volume, taker-buy volume (NaN if not known); one that is no possible bar is
        skipped and counted. Raises `LocalProtocolError` if shapes or times do not fit.
        """
        if ohlcv.shape != (open_time_ms.size, len(self.symbols), 6):
            raise LocalProtocolError(
                f"rows of shape {ohlcv.shape} do not fit {open_time_ms.size} minutes of {len(self.symbols)} symbols"
            )
        minutes = np.ascontiguousarray(open_time_ms, np.int64) // MINUTE_MS
        if minutes.size and (np.diff(minutes) <= 0).any():
            raise LocalProtocolError("minutes must be rising")
        self._shown = None
        first = int(np.searchsorted(minutes, self._common("minute"), side="right"))
        # Memory that may not be written (Arrow's, say) is another type to numba: it would compile all over again.
        rows = np.require(ohlcv[first:], np.float64, ["C", "W"])
        if self._desk is None:
            self._step.advance(self._settings, self._state, minutes[first:], rows, self._foreign, *self._scratch)
        else:
            for minute, row in zip(minutes[first:].tolist(), rows, strict=True):
                self._live_minute(self._desk, minute, row)
        return int(minutes.size - first)

    def step(
        self,
        open_time_ms: int,
        bars: Mapping[str, Bar],
        *,
        quotes: Mapping[str, Quote],
        marks: Mapping[str, MarkPrice],
        held: Mapping[str, int],
        equity_drawdown: float,
    ) -> tuple[Decision, ...]:
        """Live through one closed minute and decide on the symbols whose turn it is.

        Args:
            open_time_ms: open time of the minute; must be later than the last one lived.
            bars: its bars. A symbol without one is neither updated nor traded.
            quotes: fresh quotes only; a symbol without one is refused.
            marks: for the funding a position would pay within the horizon.
            held: sign of the real position by symbol; absent is flat.
            equity_drawdown: equity below its peak, as a fraction of the peak.

        Raises:
            LocalProtocolError: the minute was lived already.
        """
        minute = open_time_ms // MINUTE_MS
        if minute <= self._common("minute"):
            raise LocalProtocolError(f"minute {open_time_ms} was lived already (last: {self.last_open_time_ms})")
        self._shown = None
        rows = np.full((1, len(self.symbols), 6), np.nan)
        for index, symbol in enumerate(self.symbols):
            bar = bars.get(symbol)
            if bar is not None and bar.closed and bar.open_time_ms == open_time_ms:
                rows[0, index] = bars_to_rows((bar,))[0]
        closed = int(self._common("closed"))
        if self._desk is None:
            self._step.advance(self._settings, self._state, np.array([minute]), rows, self._foreign, *self._scratch)
        else:
            self._live_minute(self._desk, minute, rows[0])
        self._labels += map(self._label, range(closed, int(self._common("closed"))))
        return tuple(
            self._decide(index, minute, quotes, marks, held.get(symbol, 0), equity_drawdown)
            for index, symbol in enumerate(self.symbols)
            if self._step.is_due(self._settings, minute, index)
        )

    def take_labels(self) -> tuple[Label, ...]:
        """What the questions closed by `step` came to, oldest first; each is given once."""
        taken = tuple(self._labels)
        self._labels.clear()
        return taken

    def adopt(self, config: TraderConfig) -> None:
        """Decide by these settings from now on. Raises `LocalProtocolError` if they would learn differently."""
        settings = self._states.settings_of(config, len(self.symbols))
        if settings[:4] != self._settings[:4]:
            raise LocalProtocolError("settings that shape what is learned cannot be changed in a running trader")
        self._trader, self._settings = config, settings

    def decide_as(
        self,
        config: TraderConfig,
        *,
        quotes: Mapping[str, Quote],
        marks: Mapping[str, MarkPrice],
        held: Mapping[str, int],
        equity_drawdown: float,
    ) -> tuple[Decision, ...]:
        """What other settings, not shaping what is learned, would decide on the latest minute; arguments as `step`."""
        own = self._trader
        self.adopt(config)
        try:
            minute = int(self._common("minute"))
            return tuple(
                self._decide(index, minute, quotes, marks, held.get(symbol, 0), equity_drawdown)
                for index, symbol in enumerate(self.symbols)
                if self._step.is_due(self._settings, minute, index)
            )
        finally:
            self.adopt(own)

    # -- looking --------------------------------------------------------------------------------------------------

    @property
    def policy_name(self) -> str:
        """Who speaks: the built-in learner, or the policy's own name."""
        return self._desk.name if self._desk else LEARNER

    @property
    def drift_step(self) -> str:
        """What drift has led to: steady, shrink, hold or bench (`labkit.trader.drift`)."""
        from labkit.trader.drift import DRIFT_STEPS

        return DRIFT_STEPS[int(self._common("drift_step"))]

    @property
    def learned_labels(self) -> int:
        """Labels learned from since the first bar ever."""
        return int(self._common("labels"))

    @property
    def virtual_closed(self) -> int:
        """Virtual positions closed since the first bar ever; each became a label."""
        return int(self._common("closed"))

    @property
    def missing_minutes(self) -> int:
        """Minutes between lived ones in which no symbol had a bar."""
        return int(self._common("missing_minutes"))

    @property
    def last_open_time_ms(self) -> int | None:
        """Open time of the last minute lived, or None before the first."""
        minute = int(self._common("minute"))
        return minute * MINUTE_MS if minute >= 0 else None

    @property
    def is_warm(self) -> bool:
        """True once every symbol has lived through the warm-up."""
        return bool((self._state.symbols["bars"] >= max(1, self._trader.warm_up_minutes)).all())

    def learning(self) -> LearningRow:
        """How the learner stands."""
        common = self._state.common[0]
        weight = float(common["weight"])
        return LearningRow(
            labels=self.learned_labels,
            calibration_slope=self._learner.calibration_slope(common),
            calibration_slope_lower=self._learner.usable_slope(common, self._settings.confidence_z),
            skill_millinats=1_000.0 * float(common["skill"]) / weight if weight > 0.0 else 0.0,
            expert_weights=self._expert_weights(),
            drift=self.drift_step,
            drift_nats=float(common["drift"]),
            evidence_nats=float(common["evidence"]),
        )

    def mark_virtual(self, quotes: Mapping[str, Quote]) -> None:
        """Re-mark open virtual positions at the middle of these quotes. For display; nothing is learned from it."""
        self._shown = None
        for symbol, quote in quotes.items():
            bid, ask = quote_to_floats(quote)
            self._last_price[symbol] = 0.5 * (bid + ask)

    def virtual_positions(self) -> tuple[VirtualPosition, ...]:
        """The open virtual positions, oldest first per symbol; of each pair the side the model leaned to."""
        # Kept, because widgets ask five times a second, on the loop that trades.
        if self._shown is None:
            self._shown = tuple(
                self._virtual_position(symbol, index, *pair)
                for index, symbol in enumerate(self.symbols)
                for pair in self._open_pairs(index)
            )
        return self._shown

    def observe_execution(self, symbol: str, real_minus_virtual: float) -> None:
        """Learn what real fills lose (negative) or gain against their virtual twin, as a fraction of notional."""
        if not math.isfinite(real_minus_virtual):
            raise LocalProtocolError(f"{symbol}: execution gap {real_minus_virtual} is not a number")
        gaps = self._state.symbols["execution_gap"]
        index = self.symbols.index(symbol)
        gaps[index] += _GAP_RATE * (real_minus_virtual - gaps[index])

    # -- remembering ----------------------------------------------------------------------------------------------

    def state_bytes(self) -> bytes:
        """Everything the trader knows, with a header that says what it belongs to. Loading runs no code."""
        memory = self._desk.memory() if self._desk else b""
        payload = self._states.to_bytes(self._state) + memory
        return msgspec.json.encode(self._header(payload, len(memory))) + b"\n" + payload

    def restore(self, stored: bytes) -> None:
        """Become the trader whose `state_bytes` these are.

        Raises:
            RemoteProtocolError: damaged, of another version, of other symbols or of settings that learn differently;
                nothing has changed then.
        """
        first_line, _, payload = stored.partition(b"\n")
        try:
            header = msgspec.json.decode(first_line, type=StateHeader)
        except msgspec.DecodeError as error:
            raise RemoteProtocolError(f"not a stored trader state: {error}") from error
        own = self._header(payload, header.policy_bytes)
        for field in StateHeader.__struct_fields__:
            if getattr(header, field) != getattr(own, field):
                raise RemoteProtocolError(
                    f"stored trader state does not fit: {field} is {getattr(header, field)!r}, "
                    f"expected {getattr(own, field)!r}"
                )
        self._shown = None
        known = len(payload) - header.policy_bytes
        try:
            self._state = self._states.from_bytes(payload[: max(0, known)], self._state)
        except ValueError as error:
            raise RemoteProtocolError(f"stored trader state is shortened: {error}") from error
        if self._desk:
            self._desk.remember(payload[known:])

    def state_hash(self) -> str:
        """SHA-256 of everything the trader knows, in hexadecimal; a policy's own memory is not in it."""
        return hashlib.sha256(self._states.to_bytes(self._state)).hexdigest()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _live_minute(self, desk: PolicyDesk, minute: int, rows: NDArray[np.float64]) -> None:
        """One minute in which `desk` is told what it was right about, and asked."""
        state = self._state
        before = int(self._common("closed"))
        asked = self._step.take_in(self._settings, state, minute, rows, *self._scratch)
        for number in range(before, int(self._common("closed"))):
            desk.teach(state.answers[number % state.answers.size])
        if asked:
            foreign = self._foreign[0].copy()
            for index, record in enumerate(state.symbols):
                if record["asked_minute"] == minute:
                    foreign[index] = desk.ask(index, minute, record)
            self._step.put_questions(state, minute, foreign)

    def _label(self, number: int) -> Label:
        """The label of the question that closed as the `number`th; only the latest are kept."""
        answer = self._state.answers[number % self._state.answers.size]
        return Label(
            symbol=self.symbols[int(answer["symbol"])],
            asked_ms=(int(answer["asked_minute"]) + 1) * MINUTE_MS,
            closed_ms=(int(answer["minute"]) + 1) * MINUTE_MS,
            came_to=float(answer["q"]),
            weight=float(answer["weight"]),
        )

    def _common(self, field: str) -> float:
        value: float = self._state.common[field][0]
        return value

    def _header(self, payload: bytes, policy_bytes: int) -> StateHeader:
        layout = repr([(part.dtype.descr, part.shape) for part in self._state])
        return StateHeader(
            version=STATE_VERSION,
            symbols=self.symbols,
            policy=self.policy_name,
            learning={
                "horizon_minutes": self._trader.horizon_minutes,
                "decision_every_minutes": self._trader.decision_every_minutes,
                "barrier_sigmas": self._trader.barrier_sigmas,
            },
            layout=hashlib.sha256(layout.encode()).hexdigest()[:16],
            sha256=hashlib.sha256(payload).hexdigest(),
            policy_bytes=policy_bytes,
        )

    def _expert_weights(self) -> dict[str, float]:
        weights = np.exp(self._state.common["log_weights"][0])
        return {expert.name: float(weight) for expert, weight in zip(self._learner.EXPERTS, weights, strict=True)}

    def _decide(
        self,
        index: int,
        minute: int,
        quotes: Mapping[str, Quote],
        marks: Mapping[str, MarkPrice],
        held: int,
        drawdown: float,
    ) -> Decision:
        symbol = self.symbols[index]
        record, common = self._state.symbols[index], self._state.common[0]
        asked = bool(record["asked_minute"] == minute)
        p = float(record["p"]) if asked else 0.5
        barrier = float(record["barrier"]) if asked else 0.0
        now_ms = (minute + 1) * MINUTE_MS
        spread = 0.0
        if quote := quotes.get(symbol):
            bid, ask = quote_to_floats(quote)
            spread = (ask - bid) / (0.5 * (ask + bid))
        fee, slippage = 2.0 * self._trader.taker_fee_rate, 2.0 * self._trader.slippage_rate
        gap = self._policy.unforeseen_gap(float(record["execution_gap"]), slippage)
        long_funding = 0.0
        mark = marks.get(symbol)
        if mark and now_ms <= mark.next_funding_time_ms < now_ms + self._trader.horizon_minutes * MINUTE_MS:
            long_funding = float(mark.funding_rate)
        verdict = self._policy.judge(
            self._settings, common, p, barrier, fee + spread + slippage + gap, long_funding, drawdown
        )
        costs = self._receipts.Costs(
            fee=fee, spread=spread, slippage=slippage, funding=verdict.side * long_funding, execution_gap=gap
        )
        look = self._look(index, now_ms, quote is not None, asked, held, drawdown, barrier)
        return self._receipts.write_decision(look, verdict, costs, self._trader)

    def _look(
        self, index: int, now_ms: int, quote_fresh: bool, asked: bool, held: int, drawdown: float, barrier: float
    ) -> Look:
        from labkit.trader.features import FEATURE_NAMES

        record, common = self._state.symbols[index], self._state.common[0]
        bar_present = bool(record["last_minute"] == common["minute"])
        x = record["x"] if bar_present else np.zeros(len(FEATURE_NAMES))
        expert_weights = self._expert_weights()
        contributions = dict.fromkeys(FEATURE_NAMES, 0.0)
        for k, expert in enumerate(self._learner.EXPERTS):
            for name, weight in self._learner.weights_by_feature(k, common["weights"][k]).items():
                value = float(x[FEATURE_NAMES.index(name)])
                if math.isfinite(value):
                    contributions[name] += expert_weights[expert.name] * weight * value
        trouble = ""
        if self._desk:
            # Nobody can look into another's model: its features are shown, not what it made of them.
            contributions = {}
            trouble = self._desk.trouble(self.symbols[index]) if asked else ""
        return self._receipts.Look(
            symbol=self.symbols[index],
            time_ms=now_ms,
            bars=int(record["bars"]),
            bar_present=bar_present,
            policy=self.policy_name,
            policy_trouble=trouble,
            suspicion=self._suspicion(record) if bar_present else "",
            quote_fresh=quote_fresh,
            asked=asked,
            held=held,
            drawdown=drawdown,
            barrier=barrier,
            weighted_labels=float(common["weight"]),
            drift=float(common["drift"]),
            drift_step=int(common["drift_step"]),
            evidence=float(common["evidence"]),
            slope_confidence=(
                self._learner.calibration_slope(common),
                self._learner.usable_slope(common, self._settings.confidence_z),
            ),
            flipped=asked and self._policy.prefers_other_side(float(record["p"]), held),
            features={name: float(value) for name, value in zip(FEATURE_NAMES, x, strict=True) if math.isfinite(value)},
            contributions=contributions,
            expert_probabilities={
                expert.name: float(p) if asked else 0.5
                for expert, p in zip(self._learner.EXPERTS, record["expert_p"], strict=True)
            },
            expert_weights=expert_weights,
        )

    def _suspicion(self, record: np.void) -> str:
        """Which feature the gate holds for odd, and what it saw; empty if none."""
        from labkit.trader.feature_gate import FAULT_WORDS, SHIFTED, SPREAD
        from labkit.trader.features import FEATURE_NAMES

        if not record["suspect"]:
            return ""
        i, fault = int(record["suspect"]) - 1, int(record["fault"])
        seen = ""
        if fault == SHIFTED:
            seen = f": {record['x_mean'][i]:.2f}, learned {record['x_low'][i]:.2f} to {record['x_high'][i]:.2f}"
        elif fault == SPREAD:
            seen = f": {math.sqrt(record['x_square'][i]):.2f}, learned up to {record['x_widest'][i]:.2f}"
        return f"{FEATURE_NAMES[i]} {FAULT_WORDS[fault]}{seen}"

    def _filled_pairs(self, index: int) -> int:
        record = self._state.symbols[index]
        return int(record["pairs"] - record["pending"])

    def _open_pairs(self, index: int) -> Iterator[tuple[float, float, float, int, int]]:
        # Column by column: reading a record's fields one by one costs ten times as much, and a monitor looks all day.
        pairs = self._state.pairs[index, : self._filled_pairs(index)]
        return zip(*(pairs[name].tolist() for name in ("p", "entry", "barrier", "entry_minute", "due")), strict=True)

    def _virtual_position(
        self, symbol: str, index: int, p: float, entry: float, barrier: float, entry_minute: int, due: int
    ) -> VirtualPosition:
        side = 1 if p >= 0.5 else -1
        price = self._last_price.get(symbol, float(self._state.symbols["last_close"][index]))
        return VirtualPosition(
            symbol=symbol,
            side=side,
            opened_ms=entry_minute * MINUTE_MS,
            entry_price=entry,
            stop_price=entry * (1.0 - side * barrier),
            target_price=entry * (1.0 + side * barrier),
            due_ms=(due + 1) * MINUTE_MS,
            last_price=price,
            result=side * (price / entry - 1.0),
        )


def compile_ahead() -> None:
    """Compile everything once, so that the first start of a lab does not wait (about ten seconds). Idempotent."""
    from labkit.trader import compiling, policy

    trader = SelfLearningTrader(Config())
    minutes = np.arange(1, 4, dtype=np.int64) * MINUTE_MS
    trader.live_through_arrays(minutes, np.ones((3, len(trader.symbols), 6)))
    for minute in range(4, 4 + trader.config.trader.decision_every_minutes):
        trader.step(minute * MINUTE_MS, {}, quotes={}, marks={}, held={}, equity_drawdown=0.0)
    trader.learning()
    policy.prefers_other_side(0.5, 1)
    policy.unforeseen_gap(0.0, 0.0)
    compiling.forget_old_machine_code()
