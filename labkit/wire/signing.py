"""Request signatures, for the client that makes them and the exchange that checks them.

The signed text is the query string followed by the body, without a separator, exactly as sent and without the
`signature` parameter (protocol §5.1). A key is of one of three kinds: an HMAC secret that both sides know (SHA-256,
hexadecimal), or a pair of which the exchange knows the public half only: RSA (PKCS #1 v1.5 with SHA-256, base64) or
Ed25519 (base64). Private and public halves are written as PEM, a secret is any other text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from labkit.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256

PEM_BEGINS = "-----BEGIN "
SMALLEST_RSA_BITS = 2_048


def sign_hmac(secret: str, payload: str) -> str:
    """The lower-case hex signature of `payload`."""
    return hmac.new(secret.encode(), _bytes_of(payload), hashlib.sha256).hexdigest()


def make_signer(private_pem: str) -> Callable[[str], str]:
    """What signs with an RSA or Ed25519 key: payload in, base64 out, to be percent-encoded where it is sent.

    Args:
        private_pem: PKCS #8, without a passphrase.

    Raises:
        ConfigError: it is no such key; the message shows nothing of it.
    """
    # Loaded when the first such key is met: a lab with an HMAC key starts without it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own words may quote the text.
        raise ConfigError(
            "private key: not a PEM of a private key without a passphrase (value not shown)", field="private key"
        ) from None
    if isinstance(key, RSAPrivateKey):
        _require_rsa_bits(key.key_size, "private key")
        rsa = key
        return lambda payload: _base64(rsa.sign(_bytes_of(payload), *_pkcs1()))
    if isinstance(key, Ed25519PrivateKey):
        edwards = key
        return lambda payload: _base64(edwards.sign(_bytes_of(payload)))
    raise ConfigError("private key: neither RSA nor Ed25519", field="private key")


def require_verifiable(key: str) -> None:
    """Raises `ConfigError` if `key` is a PEM, but not one that `verify_signature` can check signatures by."""
    if key.startswith(PEM_BEGINS):
        _public_key(key)


def verify_signature(key: str, query: str, body: str) -> bool:
    """True if the `signature` parameter, wherever it stands in `query` or `body`, signs all the rest.

    Common clients sign the text they send, but some sign a list before percent-encoding it; so the received text is
    tried first and its percent-decoded form second. Hex may be in either case.

    Args:
        key: what the exchange has of the client's key: the secret, or the public half of a pair as PEM.

    Raises:
        ConfigError: `key` is a PEM of something else.
    """
    query_rest, query_signatures = _cut_signature(query)
    body_rest, body_signatures = _cut_signature(body)
    signatures = query_signatures + body_signatures
    if len(signatures) != 1:
        return False
    payload = query_rest + body_rest
    is_signature = _is_signature_of_pair if key.startswith(PEM_BEGINS) else _is_hmac
    return any(is_signature(key, signatures[0], text) for text in (payload, unquote(payload)))


def _is_hmac(secret: str, claimed: str, payload: str) -> bool:
    return hmac.compare_digest(sign_hmac(secret, payload).encode(), _bytes_of(claimed.lower()))


def _is_signature_of_pair(public_pem: str, claimed: str, payload: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    key = _public_key(public_pem)
    try:
        signature = base64.b64decode(unquote(claimed).encode("ascii"), validate=True)
        if isinstance(key, RSAPublicKey):
            key.verify(signature, _bytes_of(payload), *_pkcs1())
        else:
            key.verify(signature, _bytes_of(payload))
    except (UnicodeEncodeError, binascii.Error, InvalidSignature):
        return False
    return True


@lru_cache(maxsize=8)
def _public_key(public_pem: str) -> RSAPublicKey | Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        # It may be the private half, taken by mistake.
        raise ConfigError("public key: not a PEM of a public key (value not shown)", field="public key") from None
    if isinstance(key, RSAPublicKey):
        _require_rsa_bits(key.key_size, "public key")
        return key
    if isinstance(key, Ed25519PublicKey):
        return key
    raise ConfigError("public key: neither RSA nor Ed25519", field="public key")


def _require_rsa_bits(bits: int, field: str) -> None:
    if bits < SMALLEST_RSA_BITS:
        raise ConfigError(f"{field}: RSA of {bits} bits; at least {SMALLEST_RSA_BITS} are needed", field=field)


def _pkcs1() -> tuple[PKCS1v15, SHA256]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return PKCS1v15(), SHA256()


def _base64(signature: bytes) -> str:
    return base64.b64encode(signature).decode("ascii")


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _cut_signature(text: str) -> tuple[str, list[str]]:
    """`text` without its `signature` parameters, and their values."""
    rest: list[str] = []
    signatures: list[str] = []
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if name == "signature":
            signatures.append(value)
        else:
            rest.append(pair)
    return "&".join(rest), signatures
