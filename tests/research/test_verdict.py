"""judge claims an edge only when skill, luck and baselines all allow it, and says in words what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import ConfigError
from labkit.research.trials import Trials
from labkit.research.verdict import Skill, judge


def returns_of(sharpe: float, days: int = 365, seed: int = 1) -> np.ndarray:
    """Daily returns of exactly this annualised Sharpe ratio."""
    noise = np.random.default_rng(seed).standard_normal(days)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return 0.01 * (noise + sharpe / 365**0.5)


def many_trials(count: int, days: int = 365) -> Trials:
    tried = 0.01 * np.random.default_rng(99).standard_normal((days, count))
    return Trials(count, count, tried.mean(axis=0) / tried.std(axis=0, ddof=1), tried)


def unmet(verdict: object) -> set[str]:
    return {requirement.name for requirement in verdict.requirements if not requirement.met}  # type: ignore[attr-defined]


def test_a_strong_result_tried_once_is_evidence() -> None:
    verdict = judge(returns_of(4.0), {"buy and hold": returns_of(0.5, seed=2)})
    assert verdict.evidence
    assert verdict.words.startswith("Evidence of an edge: Sharpe ratio 4.00 (between")


def test_the_same_result_as_the_best_of_five_hundred_is_none() -> None:
    verdict = judge(returns_of(3.0), {}, many_trials(500))
    assert not verdict.evidence
    assert "deflated_sharpe" in unmet(verdict)
    assert verdict.words.startswith("No evidence of edge: Sharpe ratio 3.00")
    assert "after 500 trials the best without skill would show" in verdict.words.lower()
    assert judge(returns_of(3.0), {}, many_trials(1)).evidence


def test_what_a_baseline_does_as_well_is_no_edge() -> None:
    own = returns_of(4.0)
    verdict = judge(own, {"buy and hold": own})
    assert unmet(verdict) == {"superiority"}
    assert "what it earned beyond buy and hold is luck has a p-value of 1.000" in verdict.words


def test_what_a_learner_of_ones_own_finds_too_is_an_edge_all_the_same() -> None:
    own = returns_of(4.0)
    verdict = judge(own, {"frozen learner": own}, skilled=frozenset({"frozen learner"}))
    assert verdict.evidence
    assert verdict.p_values["frozen learner"] == 1.0


def test_cash_is_always_among_the_baselines() -> None:
    assert judge(returns_of(1.0), {}).p_values.keys() == {"cash"}


def test_a_learner_without_skill_has_no_edge_whatever_it_earned() -> None:
    labels = np.full(365, 400.0)
    noise = np.random.default_rng(3).standard_normal(365)
    lucky = judge(returns_of(4.0), {}, skill=Skill(0.05 * noise, labels))
    knowing = judge(returns_of(4.0), {}, skill=Skill(0.4 + 0.05 * noise, labels))
    assert unmet(lucky) == {"skill"}
    assert knowing.evidence
    assert knowing.skill == pytest.approx(1.0, abs=0.02)


def test_a_short_record_is_no_evidence_however_good() -> None:
    verdict = judge(returns_of(20.0, days=40), {})
    assert unmet(verdict) == {"days"}
    assert "There are 40 days and 60 are the least" in verdict.words


def test_an_idle_account_is_no_evidence_and_loses_nothing() -> None:
    verdict = judge(np.zeros(365), {"buy and hold": returns_of(1.0)})
    assert not verdict.evidence
    assert (verdict.sharpe, verdict.drawdown.depth, verdict.sharpe_interval) == (0.0, 0.0, (0.0, 0.0))


def test_the_days_must_be_the_same() -> None:
    with pytest.raises(ConfigError, match="trend has 364 days, the strategy 365"):
        judge(returns_of(1.0), {"trend": returns_of(1.0, 364)})
    with pytest.raises(ConfigError, match="trials have 100 days"):
        judge(returns_of(1.0), {}, many_trials(3, 100))


def test_the_table_shows_every_figure_and_lets_no_name_become_markup() -> None:
    html = judge(returns_of(1.0), {"<b>": returns_of(0.5, seed=2)}, many_trials(3))._repr_html_()
    for text in (
        "No evidence of edge",
        "deflated Sharpe ratio",
        "probability of overfitting",
        "trials counted",
        "cash",
    ):
        assert text in html
    assert "beside &lt;b&gt;" in html
    assert "beside <b>" not in html
