"""A user's policy in a whole lab: it trades by it, outlives its faults, and goes on with it after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.domain.decisions import Decision
from labkit.domain.snapshot import Snapshot
from labkit.engine.ledger import Ledger
from labkit.errors import RemoteProtocolError
from labkit.lab import live_in_virtual_time
from labkit.trader.policies import Policy, Question
from tests.lab.conftest import small_config


class Momentum:
    """Follows what the planted edge is made of, and fails on ETHUSDT."""

    name = "momentum"

    def probability(self, question: Question) -> float:
        if question.symbol == "ETHUSDT":
            raise LookupError("no such coin")
        return 0.5 + 0.3 * question.features["mom160"]


def live(folder: Path, minutes: float, policy: Policy | None) -> Snapshot:
    return live_in_virtual_time(small_config(), folder, minutes=minutes, policy=policy)


def decisions_in(folder: Path) -> list[Decision]:
    ledger = Ledger.open(folder, read_only=True)
    try:
        return [decision for entry in ledger.entries() for decision in entry.decisions]
    finally:
        ledger.close()


def test_a_lab_trades_by_a_policy_outlives_its_faults_and_goes_on_with_it(tmp_path: Path) -> None:
    first = live(tmp_path, 25, Momentum())
    assert first.counts.fills > 0
    again = live(tmp_path, 10, Momentum())
    assert again.state != "failed"
    made = decisions_in(tmp_path)
    assert {decision.policy for decision in made} == {"momentum"}
    broken = {d.primary_reason for d in made if d.symbol == "ETHUSDT"}
    assert broken == {"policy"}
    assert "no such coin" in next(d for d in made if d.symbol == "ETHUSDT").smallest_change
    with pytest.raises(RemoteProtocolError, match="policy is 'momentum'"):
        live(tmp_path, 1, None)
