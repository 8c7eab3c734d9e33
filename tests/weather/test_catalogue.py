"""Every row of the fault catalogue: struck, noticed in time, survived, no harm done."""

from __future__ import annotations

import asyncio

import pytest

from labkit.paper.weather.faults import FAULTS
from labkit.research.fault_trials.scene import in_weather
from labkit.research.fault_trials.table import TRIALS, table
from labkit.research.fault_trials.trial import Result, Trial, judge, run
from labkit.research.fault_trials.whole_lab import LAB_TRIALS

CATALOGUE = {f"N{n:02}" for n in range(1, 21)} | {f"X{n:02}" for n in range(1, 32)} | {f"D{n:02}" for n in range(1, 19)}
VIRTUAL = [trial for trial in TRIALS if not trial.in_real_time]
REAL = [trial for trial in TRIALS if trial.in_real_time]
ONE_OF_EACH_WAY = list({trial.way: trial for trial in VIRTUAL if trial.detect_within_ms}.values())
SLOW = {trial.way for trial in LAB_TRIALS} | {"_account_stream"}
"""Ways whose controls take seconds each."""


def named(trial: Trial) -> str:
    return f"{trial.ids} {trial.name}"


@pytest.mark.parametrize("trial", VIRTUAL, ids=named)
def test_a_fault_is_noticed_and_survived(trial: Trial) -> None:
    assert judge(trial, run(trial)) == ""


@pytest.mark.parametrize(
    "trial",
    [pytest.param(trial, marks=[pytest.mark.deep] if trial.way in SLOW else []) for trial in ONE_OF_EACH_WAY],
    ids=named,
)
def test_in_fair_weather_the_same_trial_notices_nothing(trial: Trial) -> None:
    result = run(trial, fair=True)
    assert (result.injected, result.detected_ms, result.harm) == (0, None, "")


@pytest.mark.deep
async def test_n01_to_n20_what_networks_do_to_tcp_is_noticed_and_survived_in_real_time() -> None:
    results = await asyncio.gather(*(trial.attempt(False) for trial in REAL))
    assert {named(trial): judge(trial, result) for trial, result in zip(REAL, results, strict=True)} == {
        named(trial): "" for trial in REAL
    }


@pytest.mark.deep
async def test_over_a_fair_network_the_same_trials_notice_nothing() -> None:
    results = await asyncio.gather(*(trial.attempt(True) for trial in REAL))
    told = {named(trial): (r.injected, r.detected_ms, r.harm) for trial, r in zip(REAL, results, strict=True)}
    assert told == {named(trial): (0, None, "") for trial in REAL}


def test_a_trial_is_the_same_every_time() -> None:
    trial = next(trial for trial in TRIALS if trial.name == "price-jump")
    assert run(trial) == run(trial)


def test_every_row_of_the_catalogue_has_a_trial() -> None:
    assert {ids for trial in TRIALS for ids in trial.ids.split()} == CATALOGUE


def test_every_fault_belongs_to_rows_of_the_catalogue() -> None:
    assert all(set(fault.catalogue) and set(fault.catalogue) <= CATALOGUE for fault in FAULTS.values())


def test_a_row_that_fails_says_why() -> None:
    async def unmoved(scene: object) -> Result:
        return Result(injected=1, detected_ms=None, recovered_ms=None)

    async def unharmed(scene: object) -> Result:
        return Result(injected=1, detected_ms=1, recovered_ms=2, harm="it cost money")

    verdicts = [row.verdict for row in table([in_weather("N01", "a", unmoved), in_weather("N01", "b", unharmed)])]
    assert verdicts == ["noticed never, allowed are 10 s", "it cost money"]
    assert not judge(
        in_weather("N01", "c", unmoved, detect_within_ms=None), Result(injected=1, detected_ms=None, recovered_ms=1)
    )
