"""Keys of every kind, from the client's signature to the paper exchange's check of it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from labkit.config import PaperConfig
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.errors import AuthenticationFailed, ConfigError, RequestRejected
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.venue import Venue

START_MS = 1_767_571_200_000


def halves(key: RSAPrivateKey | Ed25519PrivateKey) -> tuple[str, str]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private, public


KEYS = {
    "HMAC": ("a-secret-both-know", "a-secret-both-know"),
    "RSA": halves(generate_private_key(public_exponent=65_537, key_size=2_048)),
    "Ed25519": halves(Ed25519PrivateKey.generate()),
}


def ask(registered: str, secret: str, story) -> None:
    """Run `story(client)` with a client that signs with `secret`, at a venue where `registered` is registered."""
    market = SimulatedMarket(
        ("BTCUSDT",), seed=1, start_ms=START_MS, history_days=0, planted_edge=0.0, quotes_per_second=1
    )
    venue = Venue(market, PaperConfig(), api_key="key", api_secret=registered)
    venue.advance(START_MS + 1_000)
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop, start_ms=START_MS)
    client = BinanceClient(InProcessExchange(venue, clock), clock, None, Credentials("key", secret))
    run_in_virtual_time(story(client), loop)


@pytest.mark.parametrize("kind", KEYS)
def test_an_order_signed_with_any_kind_of_key_is_filled(kind: str) -> None:
    secret, registered = KEYS[kind]

    async def story(client: BinanceClient) -> None:
        await client.sync_time()
        placed = await client.place_order(
            OrderIntent(
                client_order_id="lab:1/a_b.c-d",
                symbol="BTCUSDT",
                side=Side.BUY,
                order_type=OrderType.MARKET,
                quantity=Decimal("0.010"),
            )
        )
        assert placed.executed_quantity == Decimal("0.010")
        assert (await client.query_order("BTCUSDT", "lab:1/a_b.c-d")).order_id == placed.order_id

    ask(registered, secret, story)


@pytest.mark.parametrize("kind", KEYS)
def test_a_symbol_beyond_ascii_is_signed_as_it_is_sent(kind: str) -> None:
    secret, registered = KEYS[kind]

    async def story(client: BinanceClient) -> None:
        await client.sync_time()
        # Not listed here; a signature over other bytes than those sent would be -1022 instead.
        with pytest.raises(RequestRejected) as refused:
            await client.query_order("币安人生USDT", "lab-1")
        assert refused.value.code == -1121

    ask(registered, secret, story)


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_that_is_not_the_registered_one_is_refused(kind: str) -> None:
    _, registered = KEYS[kind]
    stranger, _ = halves(Ed25519PrivateKey.generate())

    async def story(client: BinanceClient) -> None:
        await client.sync_time()
        with pytest.raises(AuthenticationFailed) as refused:
            await client.balances()
        assert refused.value.code == -1022

    ask(registered, stranger, story)


def test_a_private_key_cannot_be_registered_by_mistake() -> None:
    private, _ = KEYS["Ed25519"]
    with pytest.raises(ConfigError, match="public key"):
        ask(private, private, lambda client: None)
