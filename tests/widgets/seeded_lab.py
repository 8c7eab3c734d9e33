"""SeededLab: just enough of a lab to look at, a random walk that depends on nothing but its seed and its clock."""

from __future__ import annotations

import random
import threading
from decimal import Decimal

from labkit.domain.clock import Clock
from labkit.domain.decisions import Action, Decision, Gate
from labkit.domain.snapshot import (
    AccountRow,
    BreakerRow,
    Counts,
    EventRow,
    LearningRow,
    LoopRow,
    PositionRow,
    Snapshot,
    StreamRow,
    SymbolRow,
)
from labkit.errors import BreakerOpen

OPENING = Decimal(10_000)
MARKETS = {
    "BTCUSDT": ("97234.10", "0.10"),
    "ETHUSDT": ("3456.78", "0.01"),
    "SOLUSDT": ("187.450", "0.010"),
    "BNBUSDT": ("641.20", "0.01"),
    "XRPUSDT": ("2.2341", "0.0001"),
    "DOGEUSDT": ("0.31245", "0.00001"),
}


class SeededLab:
    """Prices step once per market second. Closing `BNBUSDT` is refused, every other position closes at once."""

    def __init__(self, seed: int, clock: Clock, *, symbols: int = len(MARKETS), positions: int = 3) -> None:
        self._random = random.Random(seed)
        self._clock = clock
        self._lock = threading.Lock()
        self._start_ms = self._stepped_ms = clock.now_ms()
        names = [*MARKETS, *(f"COIN{number:03}USDT" for number in range(symbols - len(MARKETS)))][:symbols]
        self._ticks = {name: Decimal(MARKETS.get(name, ("1.2345", "0.0001"))[1]) for name in names}
        self._bids = {name: Decimal(MARKETS.get(name, ("1.2345", "0.0001"))[0]) for name in names}
        self._quoted_ms = dict.fromkeys(names, self._start_ms)
        self._positions = {
            name: (Decimal(quantity), self._bids[name], self._start_ms)
            for name, quantity in [("BTCUSDT", "0.05"), ("SOLUSDT", "-12"), ("BNBUSDT", "3.5")][:positions]
        }
        self._events = [EventRow(self._start_ms, "info", "the lab opened its ledger")]
        self.state = "running"
        self.paused = ""

    def close_position(self, symbol: str, quantity: Decimal | None = None) -> None:
        if symbol == "BNBUSDT":
            raise BreakerOpen("the breaker lets nothing through for 30 s", level="halted")
        with self._lock:
            del self._positions[symbol]
            self._events.append(EventRow(self._clock.now_ms(), "info", f"{symbol} closed by hand"))

    def pause_entries(self, reason: str) -> None:
        self.paused = reason

    def resume_entries(self) -> None:
        self.paused = ""

    def snapshot(self) -> Snapshot:
        with self._lock:
            return self._snapshot(self._clock.now_ms())

    def _snapshot(self, now_ms: int) -> Snapshot:
        self._walk(now_ms)
        rows = tuple(self._position(name, *held) for name, held in self._positions.items())
        unrealized = sum((row.unrealized_pnl for row in rows), Decimal(0))
        return Snapshot(
            time_ms=now_ms,
            state=self.state,
            state_detail="everything is well",
            market="simulated",
            disclosure="Simulated market with a planted momentum edge: prices, fills and profits here are not real.",
            speed=self._clock.speed,
            symbols=tuple(self._symbol(name, now_ms) for name in self._bids),
            positions=rows,
            virtual_positions=(),
            closed_trades=(),
            decisions=tuple(self._decision(name, index) for index, name in enumerate(list(self._bids)[:6])),
            account=AccountRow(
                wallet_balance=OPENING,
                equity=OPENING + unrealized,
                available_balance=Decimal("8123.45"),
                margin_ratio=0.031,
                day_pnl=unrealized,
                deposits=OPENING,
                realized_pnl=Decimal(0),
                commissions=Decimal("4.86"),
                funding=Decimal("-0.12"),
            ),
            breaker=BreakerRow(
                level="NORMAL",
                cause="",
                since_ms=self._start_ms,
                next_probe_ms=None,
                weight_used=118,
                weight_limit=2400,
            ),
            learning=LearningRow(
                labels=4_213,
                calibration_slope=0.91,
                calibration_slope_lower=0.44,
                skill_millinats=3.2,
                expert_weights={"momentum": 0.62, "reversal": 0.38},
            ),
            loops=(
                LoopRow(
                    name="real_loop", runs=12, missed=0, overruns=0, last_run_ms=now_ms, next_run_ms=now_ms + 60_000
                ),
            ),
            streams=(
                StreamRow(
                    name="public", state="live", frames=now_ms % 997, reconnects=0, rejected=0, age_ms=120, cause=""
                ),
                StreamRow(
                    name="user data", state="connected", frames=8, reconnects=0, rejected=0, age_ms=900, cause=""
                ),
            ),
            events=tuple(self._events),
            counts=Counts(frames=now_ms % 997),
            loop_lag_ms_p50=0.4,
            loop_lag_ms_p99=3.9,
            entries_paused=self.paused,
            ledger_sequence=42,
            ledger_hash="00",
        )

    def _walk(self, now_ms: int) -> None:
        while self._stepped_ms + 1_000 <= now_ms:
            self._stepped_ms += 1_000
            for name, tick in self._ticks.items():
                if self._random.random() < 0.7:
                    step = round(self._random.gauss(0, 1.2e-4) * float(self._bids[name] / tick))
                    self._bids[name] = max(tick * 100, self._bids[name] + tick * step)
                    self._quoted_ms[name] = self._stepped_ms

    def _symbol(self, name: str, now_ms: int) -> SymbolRow:
        bid, tick = self._bids[name], self._ticks[name]
        return SymbolRow(
            symbol=name,
            bid_price=bid,
            bid_quantity=Decimal(3),
            ask_price=bid + tick,
            ask_quantity=Decimal(2),
            mark_price=bid + tick / 2,
            funding_rate=Decimal("0.0001") if len(name) % 2 else Decimal("-0.000042"),
            next_funding_time_ms=self._start_ms + 5 * 3_600_000,
            change_24h=(len(name) - 7.5) / 100,
            liquidity_score=0.2 + 0.1 * (len(name) % 6),
            age_ms=now_ms - self._quoted_ms[name],
            stale_because="no quote for 4 s" if name == "XRPUSDT" else "",
        )

    def _position(self, name: str, quantity: Decimal, entry: Decimal, opened_ms: int) -> PositionRow:
        now = self._bids[name] + (0 if quantity > 0 else self._ticks[name])
        sign = 1 if quantity > 0 else -1
        return PositionRow(
            symbol=name,
            quantity=quantity,
            entry_price=entry,
            exit_price=now,
            mark_price=now,
            unrealized_pnl=quantity * (now - entry),
            stop_price=entry * (1 - sign * Decimal("0.004")),
            target_price=entry * (1 + sign * Decimal("0.005")),
            trailing_stop_price=None,
            liquidation_price=entry * (1 - sign * Decimal("0.19")),
            opened_ms=opened_ms,
            due_ms=opened_ms + 1_800_000,
            entry_reason="edge_above_cost",
            closing=False,
        )

    def _decision(self, name: str, index: int) -> Decision:
        action = [Action.ENTER_LONG, Action.REFUSE, Action.ENTER_SHORT, Action.HOLD, Action.REFUSE, Action.EXIT][index]
        return Decision(
            symbol=name,
            time_ms=self._start_ms - index * 60_000,
            action=action,
            primary_reason="edge_below_cost" if action is Action.REFUSE else "edge_above_cost",
            side=1 if index % 2 else -1,
            probability=0.55 - index / 100,
            calibration_slope=0.9,
            edge=0.0021,
            fee_cost=0.0010,
            spread_cost=0.0001,
            slippage_cost=0.0,
            funding_cost=0.0,
            execution_gap_cost=0.0,
            expected_value=0.0010,
            leverage=0.2,
            stop_distance=0.004,
            target_distance=0.005,
            horizon_minutes=30,
            features={},
            contributions={},
            expert_probabilities={},
            expert_weights={},
            gates=(Gate("edge_below_cost", False, "7.6 bps after cost, must be above 2.5 bps"),),
            smallest_change="an edge 3.2 basis points larger",
        )
