"""A secret that is planted is never found again."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from labkit.errors import ConfigError
from labkit.exchange.credentials import Credentials
from labkit.wire.endpoints import encode_query
from labkit.wire.signing import verify_signature

KEY, SECRET = "canary-key-4242", "canary-secret-4242"
PAIR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PRIVATE = PAIR.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = PAIR.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
HALF_OF_IT = PRIVATE.splitlines()[1][24:56]
ENVIRONMENT = {"LABKIT_API_KEY": KEY, "LABKIT_API_SECRET": SECRET}
WITH_PAIR = {"LABKIT_API_KEY": KEY, "LABKIT_API_PRIVATE_KEY": PRIVATE}


def leaks(text: str) -> bool:
    return "canary" in text or HALF_OF_IT in text


@pytest.fixture(params=[SECRET, PRIVATE], ids=["secret", "pair"])
def credentials(request: pytest.FixtureRequest) -> Credentials:
    return Credentials(KEY, request.param)


@pytest.mark.parametrize(
    "show",
    [repr, str, ascii, lambda c: f"{c}", lambda c: f"{c!r:>40}", lambda c: repr([c, {"c": c}])],
    ids=["repr", "str", "ascii", "format", "padded", "nested"],
)
def test_showing_credentials_shows_a_mask(credentials: Credentials, show) -> None:
    assert not leaks(show(credentials))


@pytest.mark.parametrize(
    "write",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.msgpack.encode, vars],
)
def test_credentials_can_be_neither_written_nor_copied(credentials: Credentials, write) -> None:
    with pytest.raises(TypeError) as refused:
        write(credentials)
    assert not leaks("".join(traceback.format_exception(refused.value)))


def test_nothing_reachable_from_credentials_shows_them_when_shown(credentials: Credentials) -> None:
    shown = [repr(getattr(credentials, name)) for name in Credentials.__slots__ if name != "_key"]
    assert shown
    assert not leaks(" ".join(shown))


def test_credentials_sign_like_the_published_example_of_the_exchange() -> None:
    published = Credentials("any", "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9")
    payload = (
        "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000"
        "&timestamp=1591702613943"
    )
    assert published.sign(payload) == "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


def test_the_environment_gives_both() -> None:
    assert Credentials.from_environment(ENVIRONMENT).api_key == KEY


def signs_as_the_pair(credentials: Credentials) -> bool:
    signature = encode_query({"signature": credentials.sign("a=1")})
    return verify_signature(PUBLIC, f"a=1&{signature}", "")


def test_a_private_key_signs_what_its_public_half_verifies() -> None:
    assert signs_as_the_pair(Credentials(KEY, PRIVATE))


@pytest.mark.parametrize("written", [PRIVATE, PRIVATE.replace("\n", "\\n")], ids=["with line breaks", "on one line"])
def test_the_environment_may_hold_a_private_key(written: str) -> None:
    assert signs_as_the_pair(Credentials.from_environment(WITH_PAIR | {"LABKIT_API_PRIVATE_KEY": written}))


def test_the_environment_may_name_the_file_of_a_private_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(PRIVATE)
    path.chmod(0o600)
    assert signs_as_the_pair(Credentials.from_environment(WITH_PAIR | {"LABKIT_API_PRIVATE_KEY": str(path)}))


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    path.write_text(PRIVATE)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        Credentials.from_environment(WITH_PAIR | {"LABKIT_API_PRIVATE_KEY": str(path)})


@pytest.mark.parametrize("content", [None, SECRET, PRIVATE[:60], "canary-ключ"], ids=ascii)
def test_a_file_that_is_no_private_key_is_refused_without_being_shown(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "canary.pem"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        Credentials.from_environment(WITH_PAIR | {"LABKIT_API_PRIVATE_KEY": str(path)})
    assert not leaks("".join(traceback.format_exception(refused.value)))


def test_a_secret_and_a_private_key_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="both set") as refused:
        Credentials.from_environment(ENVIRONMENT | WITH_PAIR)
    assert not leaks(str(refused.value))


@pytest.mark.parametrize("missing", ["LABKIT_API_KEY", "LABKIT_API_SECRET"])
def test_a_missing_variable_is_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing) as refused:
        Credentials.from_environment(ENVIRONMENT | {missing: ""})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("broken", ["", "canary\n", "canary key", "“canary”", "canary\x00"], ids=ascii)
def test_a_key_that_was_pasted_badly_is_refused_without_being_shown(broken: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Credentials(KEY, broken)
    assert "canary" not in str(refused.value)
