"""A call that does not fit and a name that is not there: one sentence; everything else stays as it was."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from labkit.domain.slips import answers_slips, methods_answer_slips, slips_answered, unknown_name
from labkit.errors import ConfigError, UnfitCall, UnknownName


@answers_slips
def drive(where: str, *, speed: float = 30.0) -> str:
    """Go there."""
    return f"{where} at {speed + 0:g}"


@methods_answer_slips()
class Car:
    def turn(self, degrees: float) -> float:
        return degrees

    def _start(self, key: str) -> str:
        return key


def test_a_call_that_fits_is_carried_out() -> None:
    assert drive("home", speed=60) == "home at 60"


def test_a_misspelt_name_is_answered_with_the_nearest_right_one() -> None:
    with pytest.raises(UnfitCall, match=r"^drive\(\) takes no 'sped'; did you mean speed\?$"):
        drive("home", sped=60)  # type: ignore[call-arg]


def test_a_name_that_is_like_none_is_answered_with_all_there_are() -> None:
    with pytest.raises(UnfitCall, match=r"^drive\(\) takes no 'quickly'; it takes where, speed$"):
        drive("home", quickly=True)  # type: ignore[call-arg]


@slips_answered("garage.build", {"engine": ["cylinders"], "roof": ["colour"]})
def build(engine: dict[str, float], *, cylinder_colour: str = "") -> None:
    """Something with settings in a section."""


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"cylinders": 6}, r'write engine=\{"cylinders": 6\}$'),
        ({"cylindres": 6}, r'write engine=\{"cylinders": 6\}$'),
        ({"cylinders": "a secret"}, r'write engine=\{"cylinders": \.\.\.\}$'),
        ({"cylinder_color": 6}, r"did you mean cylinder_colour\?$"),
        ({"colour": 6}, r"it takes engine, cylinder_colour$"),
    ],
)
def test_a_setting_is_told_in_which_section_it_is_given(given: dict[str, Any], hint: str) -> None:
    with pytest.raises(UnfitCall, match=rf"^garage\.build\(\) takes no '\w+'; {hint}"):
        build(**given)


def test_a_missing_value_is_named_with_the_whole_call() -> None:
    with pytest.raises(UnfitCall, match=r"missing a required argument: 'where'; write drive\(where, speed=30\.0\)$"):
        drive()  # type: ignore[call-arg]


def test_a_method_is_told_of_without_its_self() -> None:
    with pytest.raises(UnfitCall, match=r"too many positional arguments; write turn\(degrees\)$"):
        Car().turn(1, 2)  # type: ignore[call-arg]


def test_what_is_not_public_is_left_alone() -> None:
    with pytest.raises(TypeError) as raised:
        Car()._start()  # type: ignore[call-arg]
    assert not isinstance(raised.value, UnfitCall)


def test_an_error_of_types_from_within_stays_what_it_is() -> None:
    with pytest.raises(TypeError, match="can only concatenate") as raised:
        drive("home", speed="fast")  # type: ignore[arg-type]
    assert not isinstance(raised.value, UnfitCall)


def test_programs_catch_it_as_the_type_error_it_is_and_people_as_a_wrong_setting() -> None:
    assert issubclass(UnfitCall, TypeError)
    assert issubclass(UnfitCall, ConfigError)


def test_help_and_completion_see_the_function_itself() -> None:
    assert str(inspect.signature(drive)) == "(where: 'str', *, speed: 'float' = 30.0) -> 'str'"
    assert drive.__doc__ == "Go there."


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("strat", r"^lab has no 'strat'; did you mean lab\.start\?$"),
        ("close", r"did you mean lab\.close_all or lab\.close_position\?$"),
        ("xyz", r"^lab has no 'xyz'; dir\(lab\) lists what there is$"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_it_may_stand_for(name: str, said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        raise unknown_name("lab", name, ["start", "stop", "close_all", "close_position"])


def test_the_protocols_of_python_get_the_plain_error_they_expect() -> None:
    assert type(unknown_name("lab", "_repr_png_", ["start"])) is AttributeError
