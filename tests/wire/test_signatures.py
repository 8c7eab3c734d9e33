"""Request signatures, against the vector the exchange publishes and the habits of clients in the wild."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.wire.rest import decode_query, encode_query
from labkit.wire.signing import sign_hmac, verify_hmac

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
    assert verify_hmac(SECRET, query, body)


def test_query_and_body_are_joined_without_a_separator() -> None:
    signature = sign_hmac(SECRET, "symbol=BTCUSDTside=BUY")
    assert verify_hmac(SECRET, "symbol=BTCUSDT", f"side=BUY&signature={signature}")


def test_a_list_signed_before_it_was_encoded_is_accepted() -> None:
    plain = "symbol=BTCUSDT&orderIdList=[1, 2]&timestamp=1"
    sent = f"symbol=BTCUSDT&orderIdList={quote('[1, 2]')}&timestamp=1"
    assert verify_hmac(SECRET, f"{sent}&signature={sign_hmac(SECRET, plain)}", "")


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
    assert not verify_hmac(SECRET, query, body)


def test_another_secret_does_not_verify() -> None:
    assert not verify_hmac("another", f"{PAYLOAD}&signature={SIGNATURE}", "")


readable_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(readable_text.filter(lambda name: name not in ("", "signature")), readable_text), st.booleans())
def test_whatever_the_client_signs_the_exchange_verifies(parameters: dict[str, str], in_body: bool) -> None:
    text = encode_query(parameters)
    signed = f"{text}&signature={sign_hmac(SECRET, text)}" if text else f"signature={sign_hmac(SECRET, text)}"
    assert verify_hmac(SECRET, *(("", signed) if in_body else (signed, "")))


@given(st.dictionaries(readable_text.filter(bool), readable_text))
def test_a_query_reads_back_as_its_parameters(parameters: dict[str, str]) -> None:
    assert decode_query(encode_query(parameters)) == parameters


def test_a_symbol_beyond_ascii_is_sent_as_percent_encoded_utf8() -> None:
    assert encode_query({"symbol": "币安人生USDT", "side": "BUY"}) == (
        "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&side=BUY"
    )


@given(st.text(), st.text())
def test_no_text_breaks_the_verification(query: str, body: str) -> None:
    assert verify_hmac(SECRET, query, body) in (True, False)
