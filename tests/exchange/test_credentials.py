"""A secret that is planted is never found again."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import msgspec
import pytest

from labkit.errors import ConfigError
from labkit.exchange.credentials import Credentials

KEY, SECRET = "canary-key-4242", "canary-secret-4242"


@pytest.fixture
def credentials() -> Credentials:
    return Credentials(KEY, SECRET)


@pytest.mark.parametrize(
    "show",
    [repr, str, ascii, lambda c: f"{c}", lambda c: f"{c!r:>40}", lambda c: repr([c, {"c": c}])],
    ids=["repr", "str", "ascii", "format", "padded", "nested"],
)
def test_showing_credentials_shows_a_mask(credentials: Credentials, show) -> None:
    assert "canary" not in show(credentials)


@pytest.mark.parametrize(
    "write",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.msgpack.encode, vars],
)
def test_credentials_can_be_neither_written_nor_copied(credentials: Credentials, write) -> None:
    with pytest.raises(TypeError) as refused:
        write(credentials)
    assert "canary" not in "".join(traceback.format_exception(refused.value))


def test_credentials_sign_like_the_published_example_of_the_exchange() -> None:
    published = Credentials("any", "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9")
    payload = (
        "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000"
        "&timestamp=1591702613943"
    )
    assert published.sign(payload) == "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


def test_the_environment_gives_both() -> None:
    found = Credentials.from_environment({"LABKIT_API_KEY": KEY, "LABKIT_API_SECRET": SECRET})
    assert found.api_key == KEY


@pytest.mark.parametrize("missing", ["LABKIT_API_KEY", "LABKIT_API_SECRET"])
def test_a_missing_variable_is_named(missing: str) -> None:
    environ = {"LABKIT_API_KEY": KEY, "LABKIT_API_SECRET": SECRET, missing: ""}
    with pytest.raises(ConfigError, match=missing) as refused:
        Credentials.from_environment(environ)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("broken", ["", "canary\n", "canary key", "“canary”", "canary\x00"], ids=ascii)
def test_a_key_that_was_pasted_badly_is_refused_without_being_shown(broken: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Credentials(KEY, broken)
    assert "canary" not in str(refused.value)
