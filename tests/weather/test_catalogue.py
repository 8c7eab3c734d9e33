"""Every row of the fault catalogue that an exchange can cause: struck, noticed in time, survived, no harm done."""

from __future__ import annotations

import pytest

from labkit.paper.weather.faults import FAULTS, NOT_WEATHER
from labkit.research.weather_trials import TRIALS, Trial, judge, run


def named(trial: Trial) -> str:
    return f"{trial.ids} {trial.name}"


@pytest.mark.parametrize("trial", TRIALS, ids=named)
def test_a_fault_is_noticed_and_survived(trial: Trial) -> None:
    assert judge(trial, run(trial)) == ""


ONE_OF_EACH_KIND = list({trial.live.__qualname__: trial for trial in TRIALS if trial.detect_within_ms}.values())


@pytest.mark.parametrize("trial", ONE_OF_EACH_KIND, ids=named)
def test_in_fair_weather_the_same_trial_notices_nothing(trial: Trial) -> None:
    result = run(trial, fair=True)
    assert (result.injected, result.detected_ms, result.harm) == (0, None, "")


def test_a_trial_is_the_same_every_time() -> None:
    trial = next(trial for trial in TRIALS if trial.name == "price-jump")
    assert run(trial) == run(trial)


def test_every_row_of_the_catalogue_has_a_fault_or_a_reason() -> None:
    rows = {f"N{n:02}" for n in range(1, 21)} | {f"X{n:02}" for n in range(1, 32)} | {f"D{n:02}" for n in range(1, 19)}
    injectable = {row for fault in FAULTS.values() for row in fault.catalogue}
    assert injectable | NOT_WEATHER.keys() == rows
    assert not injectable & NOT_WEATHER.keys()
