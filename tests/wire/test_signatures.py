"""Request signatures, against published vectors, plain arithmetic and the habits of clients in the wild."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import ConfigError
from labkit.wire.endpoints import decode_query, encode_query
from labkit.wire.signing import make_signer, require_verifiable, sign_hmac, verify_signature

SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
PAYLOAD = (
    "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000&timestamp=1591702613943"
)
SIGNATURE = "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"


def test_the_published_vector_is_reproduced() -> None:
    assert sign_hmac(SECRET, PAYLOAD) == SIGNATURE


@pytest.mark.parametrize(
    ("query", "body"),
    [
        pytest.param(f"{PAYLOAD}&signature={SIGNATURE}", "", id="all in the query"),
        pytest.param("", f"{PAYLOAD}&signature={SIGNATURE}", id="all in the body"),
        pytest.param(f"signature={SIGNATURE}&{PAYLOAD}", "", id="signature first"),
        pytest.param(PAYLOAD.replace("&price", f"&signature={SIGNATURE}&price"), "", id="signature in the middle"),
        pytest.param(f"{PAYLOAD}&signature={SIGNATURE.upper()}", "", id="upper-case hex"),
        pytest.param(PAYLOAD, f"signature={SIGNATURE}", id="only the signature in the body"),
    ],
)
def test_a_signature_is_found_wherever_it_stands(query: str, body: str) -> None:
    assert verify_signature(SECRET, query, body)


def test_query_and_body_are_joined_without_a_separator() -> None:
    signature = sign_hmac(SECRET, "symbol=BTCUSDTside=BUY")
    assert verify_signature(SECRET, "symbol=BTCUSDT", f"side=BUY&signature={signature}")


def test_a_list_signed_before_it_was_encoded_is_accepted() -> None:
    plain = "symbol=BTCUSDT&orderIdList=[1, 2]&timestamp=1"
    sent = f"symbol=BTCUSDT&orderIdList={quote('[1, 2]')}&timestamp=1"
    assert verify_signature(SECRET, f"{sent}&signature={sign_hmac(SECRET, plain)}", "")


@pytest.mark.parametrize(
    ("query", "body"),
    [
        pytest.param(PAYLOAD, "", id="none"),
        pytest.param("", "", id="nothing at all"),
        pytest.param(f"{PAYLOAD}&signature=", "", id="empty"),
        pytest.param(f"{PAYLOAD}&signature={SIGNATURE[:-1]}", "", id="shortened"),
        pytest.param(f"{PAYLOAD}&signature=ключ", "", id="not ASCII"),
        pytest.param(f"{PAYLOAD}&signature={SIGNATURE}&signature={SIGNATURE}", "", id="twice"),
        pytest.param(PAYLOAD.replace("quantity=1", "quantity=2") + f"&signature={SIGNATURE}", "", id="changed request"),
        pytest.param(PAYLOAD.replace("=1&", "=1&&") + f"&signature={SIGNATURE}", "", id="an empty pair slipped in"),
    ],
)
def test_anything_but_one_valid_signature_is_refused(query: str, body: str) -> None:
    assert not verify_signature(SECRET, query, body)


def test_another_secret_does_not_verify() -> None:
    assert not verify_signature("another", f"{PAYLOAD}&signature={SIGNATURE}", "")


readable_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(readable_text.filter(lambda name: name not in ("", "signature")), readable_text), st.booleans())
def test_whatever_the_client_signs_the_exchange_verifies(parameters: dict[str, str], in_body: bool) -> None:
    text = encode_query(parameters)
    signed = f"{text}&signature={sign_hmac(SECRET, text)}" if text else f"signature={sign_hmac(SECRET, text)}"
    assert verify_signature(SECRET, *(("", signed) if in_body else (signed, "")))


@given(st.dictionaries(readable_text.filter(bool), readable_text))
def test_a_query_reads_back_as_its_parameters(parameters: dict[str, str]) -> None:
    assert decode_query(encode_query(parameters)) == parameters


def test_a_symbol_beyond_ascii_is_sent_as_percent_encoded_utf8() -> None:
    assert encode_query({"symbol": "币安人生USDT", "side": "BUY"}) == (
        "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&side=BUY"
    )


@given(st.text(), st.text())
def test_no_text_breaks_the_verification(query: str, body: str) -> None:
    assert verify_signature(SECRET, query, body) in (True, False)


# -- pairs of keys ---------------------------------------------------------------------------------------------

RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
ED25519_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def private_pem(key: rsa.RSAPrivateKey | Ed25519PrivateKey, lock: KeySerializationEncryption | None = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock or NoEncryption()).decode()


def public_pem(key: rsa.RSAPrivateKey | Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


PAIRS = [pytest.param(RSA_KEY, id="RSA"), pytest.param(ED25519_KEY, id="Ed25519")]


def test_an_rsa_signature_is_what_pkcs1_says_by_plain_arithmetic() -> None:
    signature = int.from_bytes(base64.b64decode(make_signer(private_pem(RSA_KEY))(PAYLOAD)))
    public = RSA_KEY.public_key().public_numbers()
    # RFC 8017, 9.2: 00 01 FF … 00, the name of SHA-256, the digest.
    digest_info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(PAYLOAD.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (256 - 3 - len(digest_info)) + b"\x00" + digest_info
    assert pow(signature, public.e, public.n) == int.from_bytes(padded)


def test_an_ed25519_signature_is_the_one_of_the_rfc() -> None:
    # RFC 8032, 7.1, TEST 2: the one-byte message 72, a letter a query may hold.
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    assert base64.b64decode(make_signer(private_pem(key))("r")).hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@pytest.mark.parametrize("key", PAIRS)
@pytest.mark.parametrize("encoded", [True, False], ids=["percent-encoded", "plain"])
def test_the_public_half_verifies_what_the_private_half_signed(key, encoded: bool) -> None:
    signature = make_signer(private_pem(key))(PAYLOAD)
    sent = quote(signature, safe="") if encoded else signature
    assert verify_signature(public_pem(key), f"{PAYLOAD}&signature={sent}", "")
    assert verify_signature(public_pem(key), "", f"signature={sent}&{PAYLOAD}")


@pytest.mark.parametrize("key", PAIRS)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text.replace("quantity=1", "quantity=2"), id="changed request"),
        pytest.param(lambda text: text.swapcase(), id="the case of base64 counts"),
        pytest.param(lambda text: text[:-2], id="shortened"),
        pytest.param(lambda text: text.rpartition("=")[0] + "=", id="empty"),
        pytest.param(lambda text: text.rpartition("=")[0] + "=ключ", id="not ASCII"),
        pytest.param(lambda text: text.rpartition("=")[0] + "=" + SIGNATURE, id="an HMAC"),
    ],
)
def test_a_pair_verifies_nothing_else(key, spoil) -> None:
    signed = f"{PAYLOAD}&signature={quote(make_signer(private_pem(key))(PAYLOAD), safe='')}"
    assert verify_signature(public_pem(key), signed, "")
    assert not verify_signature(public_pem(key), spoil(signed), "")


def test_one_pair_does_not_verify_for_another() -> None:
    signed = f"{PAYLOAD}&signature={quote(make_signer(private_pem(ED25519_KEY))(PAYLOAD), safe='')}"
    assert not verify_signature(public_pem(Ed25519PrivateKey.generate()), signed, "")
    assert not verify_signature(public_pem(RSA_KEY), signed, "")


@given(st.dictionaries(readable_text.filter(lambda name: name not in ("", "signature")), readable_text))
def test_whatever_a_pair_signs_the_exchange_verifies(parameters: dict[str, str]) -> None:
    text = encode_query(parameters)
    signed = "&".join(filter(None, (text, encode_query({"signature": make_signer(private_pem(ED25519_KEY))(text)}))))
    assert verify_signature(public_pem(ED25519_KEY), signed, "")


@pytest.mark.parametrize(
    ("pem", "complaint"),
    [
        pytest.param(public_pem(RSA_KEY), "not a PEM of a private key", id="the public half"),
        pytest.param(private_pem(RSA_KEY, BestAvailableEncryption(b"canary")), "passphrase", id="locked"),
        pytest.param(private_pem(RSA_KEY)[:400], "not a PEM", id="cut off"),
        pytest.param(private_pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519", id="other kind"),
        pytest.param(private_pem(rsa.generate_private_key(65_537, 1_024)), "1024 bits", id="too short"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_without_being_shown(pem: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refused:
        make_signer(pem)
    assert pem.splitlines()[1] not in str(refused.value)


@pytest.mark.parametrize("pem", [private_pem(RSA_KEY), public_pem(RSA_KEY)[:100]], ids=["the private half", "cut off"])
def test_only_a_public_key_can_be_registered(pem: str) -> None:
    with pytest.raises(ConfigError, match="public key") as refused:
        require_verifiable(pem)
    assert pem.splitlines()[1] not in str(refused.value)


def test_who_signs_with_a_secret_never_loads_the_library_for_pairs() -> None:
    program = (
        "import sys; from labkit.exchange.credentials import Credentials; Credentials('k', 's').sign('a=1');"
        "from labkit.wire.signing import verify_signature; verify_signature('s', 'a=1&signature=0', '');"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
