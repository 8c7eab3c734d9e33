"""Addresses a person may type, and those refused before anything is opened."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.edge.address import exchange_address
from labkit.edge.http import SocketHttp
from labkit.edge.websocket import SocketStreams
from labkit.errors import ConfigError

SCHEMES = ("http", "https")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:18080", "http://127.0.0.1:18080"),
        ("https://demo-fapi.binance.com/", "https://demo-fapi.binance.com"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_taken_without_its_trailing_slash(text: str, address: str) -> None:
    assert exchange_address(text, schemes=SCHEMES) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "127.0.0.1:8080",
        "http://",
        "ws://127.0.0.1:8080",
        "ftp://127.0.0.1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://127.0.0.1:port",
        "http://" + "a" * 64 + ".com",
        "http://[::1",
        "http://demo-fapi.binance.com@elsewhere.com",
        "http://host/?query",
        "http://host/#fragment",
        "http://ho st",
        "http://host\n",
    ],
)
def test_anything_else_is_a_wrong_setting(text: str) -> None:
    with pytest.raises(ConfigError):
        exchange_address(text, schemes=SCHEMES)


@given(st.text() | st.text().map("http://".__add__))
def test_any_text_is_an_address_or_a_wrong_setting(text: str) -> None:
    with suppress(ConfigError):
        exchange_address(text, schemes=SCHEMES)


def test_both_transports_refuse_a_wrong_address_at_once() -> None:
    with pytest.raises(ConfigError):
        SocketHttp("ws://127.0.0.1:1", timeout_ms=1)
    with pytest.raises(ConfigError):
        SocketStreams("http://127.0.0.1:1", open_timeout_ms=1)
