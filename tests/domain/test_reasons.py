"""Every name a decision, an order or a closed trade can carry has words."""

from __future__ import annotations

import ast
import inspect
from decimal import Decimal
from types import ModuleType
from typing import Any

import msgspec
import pytest

from labkit.config import RiskConfig
from labkit.domain.decisions import Action, Change, Decision, Gate
from labkit.domain.reasons import DECISIONS, EXITS, FEATURES, GATES, decision_words, exit_words, flip_words, gate_words
from labkit.engine import engine, risk_gates
from labkit.engine.risk_gates import EntryContext, entry_gates
from labkit.trader import receipts
from labkit.trader.exits import EXIT_REASONS
from labkit.trader.features import FEATURE_NAMES

REFUSED = Decision(
    symbol="BTCUSDT",
    time_ms=0,
    action=Action.REFUSE,
    primary_reason="order_size",
    side=1,
    probability=0.6,
    calibration_slope=1.0,
    edge=0.0,
    fee_cost=0.0,
    spread_cost=0.0,
    slippage_cost=0.0,
    funding_cost=0.0,
    execution_gap_cost=0.0,
    expected_value=0.0,
    leverage=0.0,
    stop_distance=0.0,
    target_distance=0.0,
    horizon_minutes=30,
    features={},
    contributions={},
    expert_probabilities={},
    expert_weights={},
    gates=(),
    smallest_change="the gate order_size passing (quantity 0 after rounding to the symbol's step)",
    changes=(Change("order_size", 0.0, 1.0),),
)


def calls_of(name: str, module: ModuleType) -> list[Any]:
    """The first argument of every call of `name` in the source of `module`."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
    return [node.args[0].value for node in calls if getattr(node.func, "id", "") == name]  # type: ignore[attr-defined]


def test_every_gate_there_is_has_words_and_no_other() -> None:
    assert set(calls_of("Gate", receipts)) | set(calls_of("Gate", risk_gates)) == set(GATES)


def test_every_exit_there_is_has_words() -> None:
    assert {*EXIT_REASONS[1:], engine.BY_HAND, "liquidation", "external"} == set(EXITS)


def test_every_input_of_the_learner_has_words() -> None:
    assert set(FEATURE_NAMES) == set(FEATURES)


def test_a_gate_says_another_thing_when_it_is_not_passed() -> None:
    context = EntryContext(
        quantity=Decimal(0), notional=Decimal(0), entries_paused="", breaker_level="NORMAL", open_positions=0,
        symbol_busy=False, day_pnl=Decimal(0), day_start_equity=Decimal(100), orders_last_minute=0,
    )  # fmt: skip
    said = {gate.name: gate_words(gate) for gate in entry_gates(RiskConfig(), context)}
    assert said["order_size"] == "The order rounds to nothing"
    assert said["breaker"] == "The circuit breaker permits entries"


def test_what_spoke_for_an_entry_is_what_spoke_against_a_refusal() -> None:
    refused = msgspec.structs.replace(REFUSED, primary_reason="expected_value")
    entered = msgspec.structs.replace(refused, action=Action.ENTER_LONG)
    assert decision_words(refused) == "The edge is not worth its costs"
    assert decision_words(entered) == "The edge is worth its costs"


@pytest.mark.parametrize("reason", sorted(DECISIONS))
def test_a_reason_that_is_no_gate_has_words(reason: str) -> None:
    assert decision_words(msgspec.structs.replace(REFUSED, primary_reason=reason)) == DECISIONS[reason]


def test_what_would_flip_a_refusal_of_the_engine_names_no_gate_by_its_name() -> None:
    assert flip_words(REFUSED) == "Would enter if: The order is large enough to be placed."


def test_what_would_flip_a_decision_of_the_trader_is_told_as_it_was() -> None:
    told = "Would enter with a cost of 1.00 bps instead of 2.00 bps."
    assert flip_words(msgspec.structs.replace(REFUSED, smallest_change=told, changes=())) == told


def test_a_name_nobody_knows_is_shown_as_it_is() -> None:
    assert gate_words(Gate("moon_phase", False, "")) == "moon phase: not passed"
    assert exit_words("old_reason") == "old reason"
