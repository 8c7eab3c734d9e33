"""What changed since the day before: every sentence says what the two days hold, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from labkit.domain.day_history import DaySummary
from labkit.domain.snapshot import LearningRow
from labkit.report.since_yesterday import UNKNOWN, SinceYesterday, sentences_of
from tests.report.conftest import MakeDay

LEARNED = LearningRow(
    labels=1_000, calibration_slope=0.8, calibration_slope_lower=0.5, skill_millinats=1.5, expert_weights={}
)
BEFORE = DaySummary(
    day="2026-01-05", opening_equity=Decimal(0), closing_equity=Decimal(10_050), deposits=Decimal(10_000),
    fees=Decimal("-12.5"), funding=Decimal(0), trades=4, decisions=100, taken=5, refused={"expected_value": 60},
    learning=LEARNED, moves={}, settings={"trader.cost_margin": 0.25}, config_fingerprint="a", version="0.1.0",
)  # fmt: skip
NOW = msgspec.structs.replace(
    BEFORE, day="2026-01-06", opening_equity=Decimal(10_050), closing_equity=Decimal("9949.5"), deposits=Decimal(0),
    trades=1, fees=Decimal(-3),
)  # fmt: skip


def told(**changes: Any) -> str:
    return "\n".join(sentences_of(BEFORE, msgspec.structs.replace(NOW, **changes)))


def test_the_result_stands_beside_that_of_the_day_before() -> None:
    assert "The account lost 100.50 USDT (−1.00 %), after it had gained 50.00 USDT (+0.50 %) the day before." in told()
    assert "1 trade closed after 4; fees −3.00 after −12.50 USDT." in told()


def test_a_gap_between_two_days_is_named() -> None:
    assert "on 2026-01-05, the last day there is" in told(day="2026-01-09")


def test_a_changed_setting_is_told_with_both_values_and_an_unchanged_one_is_not() -> None:
    assert "No setting was changed." in told()
    assert "trader.cost_margin 0.25 → 0.5" in told(settings={"trader.cost_margin": 0.5})


def test_a_new_leading_reason_of_refusals_is_told_with_the_old_one() -> None:
    assert "the edge is not worth its costs (60 of 60), as before" in told()
    changed = told(refused={"quote_fresh": 7, "expected_value": 3})
    assert "there is no fresh quote (7 of 10); before, because the edge is not worth its costs" in changed


def test_what_was_learned_in_between_is_counted() -> None:
    later = msgspec.structs.replace(LEARNED, labels=1_300, skill_millinats=-0.2)
    assert "300 labels were learned from; skill +1.50 → −0.20 millinats a label" in told(learning=later)


def test_another_version_of_labkit_is_told() -> None:
    assert "labkit 0.1.0 became labkit 0.2.0." in told(version="0.2.0")
    assert "became" not in told()


def test_the_first_day_of_a_ledger_says_that_nothing_is_known_before_it(make_day: MakeDay) -> None:
    day = msgspec.structs.replace(make_day(), days=(BEFORE,))
    assert repr(SinceYesterday(day)) == UNKNOWN


def test_markup_in_a_setting_is_only_text(make_day: MakeDay) -> None:
    odd = msgspec.structs.replace(NOW, settings={"trader.name": "<b>x</b>"})
    assert "<b>" not in SinceYesterday(msgspec.structs.replace(make_day(), days=(BEFORE, odd)))._repr_html_()
