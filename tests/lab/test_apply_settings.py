"""Settings applied to a running lab: what was open stays open and guarded, and there is a way back."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.domain import events as ev
from labkit.domain.snapshot import Snapshot
from labkit.engine.ledger import Ledger
from labkit.errors import ConfigError, LabkitError
from labkit.lab import Lab
from labkit.trader.policies import Question

QUICK: dict[str, Any] = {
    "speed": 60,
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "paper": {"history_days": 4, "planted_edge": 0.8},
    "trader": {
        "warm_up_minutes": 600,
        "cold_start_labels": 50,
        "decision_every_minutes": 2,
        "horizon_minutes": 60,
        "barrier_sigmas": 2.0,
        "cost_margin": 0.0,
        "evidence_nats": 0.0,
        "prior_confidence_z": 0.0,
    },
}


class Momentum:
    """Follows what the planted edge is made of; a user's policy may fail at any start."""

    def __init__(self) -> None:
        self.names: list[object] = []

    @property
    def name(self) -> object:
        return self.names.pop(0) if self.names else "momentum"

    def probability(self, question: Question) -> float:
        return 0.5 + 0.3 * question.features["mom160"]


def started(folder: Path, **settings: Any) -> Lab:
    lab = labkit.start(data_dir=str(folder), **{**QUICK, **settings})
    lab.wait_for("running", 90)
    return lab


def settings_on_record(folder: Path) -> list[dict[str, Any]]:
    """The trader's settings of every epoch, as the ledger tells them."""
    ledger = Ledger.open(folder, read_only=True)
    try:
        return [
            entry.event.settings["trader"] for entry in ledger.entries() if isinstance(entry.event, ev.EngineStarted)
        ]
    finally:
        ledger.close()


def held_at_the_exchange(lab: Lab) -> dict[str, Decimal]:
    client = lab._running().scheduler.binance_client
    held = lab._host.submit(client.positions()).result(30)
    return {own.symbol: own.quantity for own in held if own.quantity}


def exits(snapshot: Snapshot) -> list[tuple[object, ...]]:
    return [(p.symbol, p.quantity, p.entry_price, p.stop_price, p.target_price, p.due_ms) for p in snapshot.positions]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A lab with an open position, before and after other settings were applied."""
    folder = tmp_path_factory.mktemp("applied")
    policy: Any = Momentum()
    lab = labkit.start(policy=policy, data_dir=str(folder), **QUICK)
    lab.wait_for("position_opened", 120)
    lab.pause_entries("so that nothing is opened meanwhile")
    told: dict[str, Any] = {"before": lab.snapshot(), "held_before": held_at_the_exchange(lab)}
    lab.apply_settings({"cost_margin": 0.5})
    lab.wait_for("running", 90)
    told |= {"after": lab.snapshot(), "held_after": held_at_the_exchange(lab), "lab": lab, "policy": policy}
    yield {**told, "folder": folder}
    lab.stop()


def test_an_open_position_and_its_exits_outlive_the_change(applied: dict[str, Any]) -> None:
    assert exits(applied["before"])
    assert exits(applied["after"]) == exits(applied["before"])


def test_lab_and_exchange_agree_on_what_is_held_before_and_after(applied: dict[str, Any]) -> None:
    ours = {row.symbol: row.quantity for row in applied["after"].positions}
    assert ours == applied["held_after"] == applied["held_before"] != {}


def test_what_was_applied_is_on_record_in_an_epoch_of_its_own(applied: dict[str, Any]) -> None:
    before, after = settings_on_record(applied["folder"])[:2]
    assert (before["cost_margin"], after["cost_margin"]) == (0.0, 0.5)
    assert {name for name in after if after[name] != before[name]} == {"cost_margin"}


def test_a_setting_out_of_range_is_refused_and_the_lab_was_never_stopped(applied: dict[str, Any]) -> None:
    epochs = len(settings_on_record(applied["folder"]))
    with pytest.raises(ConfigError, match="kelly_fraction"):
        applied["lab"].apply_settings({"kelly_fraction": 7})
    assert applied["lab"].snapshot().state == "running"
    assert len(settings_on_record(applied["folder"])) == epochs


def test_a_start_that_fails_is_told_and_the_lab_goes_on_with_the_settings_it_had(applied: dict[str, Any]) -> None:
    lab = applied["lab"]
    applied["policy"].names = [""]
    with pytest.raises(LabkitError, match=r"has no name of its own.*goes on with those it had"):
        lab.apply_settings({"cost_margin": 0.9})
    lab.wait_for("running", 90)
    assert lab.trader_settings().cost_margin == 0.5
    assert exits(lab.snapshot()) == exits(applied["before"])


def test_where_there_is_no_way_back_either_both_reasons_are_told(tmp_path: Path) -> None:
    policy: Any = Momentum()
    lab = labkit.start(policy=policy, data_dir=str(tmp_path), **QUICK)
    lab.wait_for("running", 90)
    policy.names = ["", ""]
    with pytest.raises(LabkitError, match="nor with those it had"):
        lab.apply_settings({"cost_margin": 0.9})
    assert lab.snapshot().state == "failed"
    lab.stop()


def test_what_is_applied_goes_before_what_a_challenger_won(tmp_path: Path) -> None:
    lab = started(tmp_path)
    lab.challenge({"cost_margin": 0.7, "kelly_fraction": 0.1})
    words = "a promotion as the rule would write it"
    lab._submit(ev.ChallengeJudged(time_ms=lab._now_ms(), promoted=True, looked_days=20, probability=0.99, words=words))
    assert lab.trader_settings().cost_margin == 0.7
    lab.apply_settings({"cost_margin": 0.5})
    assert (lab.trader_settings().cost_margin, lab.trader_settings().kelly_fraction) == (0.5, 0.1)
    lab.apply_settings({"drawdown_half": 0.2})
    assert lab.trader_settings().cost_margin == 0.5
    lab.stop()
