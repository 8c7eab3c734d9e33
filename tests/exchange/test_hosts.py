"""The allow-list: what may be asked of which address, and every trick to get around it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import ForbiddenHost
from labkit.exchange.hosts import KNOWN_HOSTS, HostKind, host_kind, require_trading_host


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8080",
        "ws://127.0.0.1:8080",
        "http://localhost:1",
        "http://[::1]:65535",
        "https://demo-fapi.binance.com",
        "https://testnet.binancefuture.com/",
        "wss://demo-fstream.binance.com",
        "wss://fstream.binancefuture.com:443",
    ],
)
def test_loopback_and_demo_hosts_may_be_traded_at(address: str) -> None:
    require_trading_host(address)


@pytest.mark.parametrize(
    "address", ["https://fapi.binance.com", "wss://fstream.binance.com", "https://fapi.binance.com:443/"]
)
def test_production_hosts_are_known_but_not_for_trading(address: str) -> None:
    assert host_kind(address) is HostKind.PRODUCTION
    with pytest.raises(ForbiddenHost, match="public data only"):
        require_trading_host(address)


TRICKS = [
    "https://fapi.binance.com@evil.example",
    "https://evil.example@127.0.0.1",
    "http://user:password@127.0.0.1:8080",
    "https://demo-fapi.binance.com.evil.example",
    "https://evil.example/demo-fapi.binance.com",
    "https://evil.example?demo-fapi.binance.com",
    "https://evil.example#demo-fapi.binance.com",
    "https://demo-fapi.binance.com/../evil",
    "https://demo-fapi.binance.com/fapi",
    "https://demo-fapi.binance.com?x=1",
    "https://demo-fapi.binance.com#x",
    "https://demo-fapi.binance.com\\@evil.example",
    "https://demo-fapi.binance.com%2eevil.example",
    "https://demo-fapi.binance.com\n",
    "https://demo-fapi.binance.com\r\nHost: evil.example",
    " https://demo-fapi.binance.com",
    "https://demo-fapi.binance.com ",
    "https://demo-fapi.binance.com\t",
    "https://demo-fapi.binance.com\x00",
    "https://demo-fapi.binance.com.",
    "https://DEMO-fapi.binance.com",
    "HTTPS://demo-fapi.binance.com",
    "https://xdemo-fapi.binance.com",
    "https://demo-fapi.binance.com:8443",
    "https://demo-fapi.binance.com:0443",
    "https://demo-fapi.binance.com:",
    "http://demo-fapi.binance.com",
    "ws://fstream.binance.com",
    "//demo-fapi.binance.com",
    "demo-fapi.binance.com",
    "https:demo-fapi.binance.com",
    "https:/demo-fapi.binance.com",
    "https:///demo-fapi.binance.com",
    "file:///etc/passwd",
    "ftp://127.0.0.1",
    "http://169.254.169.254",
    "http://2130706433",
    "http://0x7f000001",
    "http://0177.0.0.1",
    "http://127.1",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:0",
    "http://127.0.0.1:-1",
    "http://0.0.0.0:8080",
    "http://[::]:8080",
    "http://[::ffff:127.0.0.1]:8080",
    "http://[::1",
    "http://١٢٧.0.0.1",  # digits of another script
    "https://fapi.bіnance.com",  # a Cyrillic letter
    "https://fapi。binance.com",  # an ideographic full stop
    "https://api.binance.com",
    "https://binance.com",
    "",
]


@pytest.mark.parametrize("address", TRICKS, ids=ascii)
def test_no_other_spelling_of_an_address_passes(address: str) -> None:
    with pytest.raises(ForbiddenHost):
        host_kind(address)


def test_a_password_in_an_address_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ForbiddenHost) as refused:
        host_kind("https://user:hunter2@evil.example")
    assert "hunter2" not in str(refused.value)


PROGRAM = """
import asyncio, sys
from labkit.errors import ForbiddenHost, ExchangeError
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials

reached = []
CONNECTING = ("socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, args: reached.append(event) if event in CONNECTING else None)

async def ask(address, question):
    try:
        client = BinanceClient(base_url=address, credentials=Credentials("key", "secret"))
        await getattr(client, question)()
    except ForbiddenHost:
        return True
    except ExchangeError:
        return False
    finally:
        if "client" in locals():
            await client.close()

async def main():
    refused = [await ask(address, "ping") for address in TRICKS]
    keyed = [await ask(address, "balances") for address in PRODUCTION]
    print(all(refused), all(keyed), len(reached), await ask("http://127.0.0.1:9", "ping"), bool(reached))

asyncio.run(main())
"""


def test_no_trick_and_no_key_for_production_makes_a_single_connection() -> None:
    production = ["https://fapi.binance.com", "https://fapi.binance.com:443/"]
    # The last two words are the control: an address that is allowed is connected to, and the hook sees it.
    program = f"TRICKS, PRODUCTION = {TRICKS!r}, {production!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "0", "False", "True"]


@given(st.text(max_size=60))
def test_any_text_is_a_known_host_or_refused(text: str) -> None:
    try:
        host_kind(text)
    except ForbiddenHost:
        return
    assert any(text.split("://")[1].startswith(host) for host in KNOWN_HOSTS)


@given(st.sampled_from(sorted(KNOWN_HOSTS)), st.text(min_size=1, max_size=5), st.booleans())
def test_nothing_can_be_put_beside_the_name_of_a_remote_host(host: str, extra: str, before: bool) -> None:
    if KNOWN_HOSTS[host] is HostKind.LOOPBACK:
        return
    name = extra + host if before else host + extra
    if name.removesuffix("/").removesuffix(":443") == host or name in KNOWN_HOSTS:
        return
    with pytest.raises(ForbiddenHost):
        host_kind(f"https://{name}")
