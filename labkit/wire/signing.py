"""HMAC-SHA256 request signatures, for the client that makes them and the exchange that checks them.

The signed text is the query string followed by the body, without a separator, exactly as sent and without the
`signature` parameter (protocol §5.1).
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import unquote


def sign_hmac(secret: str, payload: str) -> str:
    """The lower-case hex signature of `payload`."""
    return hmac.new(secret.encode(), payload.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def verify_hmac(secret: str, query: str, body: str) -> bool:
    """True if the `signature` parameter, wherever it stands in `query` or `body`, signs all the rest.

    Common clients sign the text they send, but some sign a list before percent-encoding it; so the received text is
    tried first and its percent-decoded form second. Hex may be in either case.
    """
    query_rest, query_signatures = _cut_signature(query)
    body_rest, body_signatures = _cut_signature(body)
    signatures = query_signatures + body_signatures
    if len(signatures) != 1:
        return False
    claimed = signatures[0].lower().encode("utf-8", "surrogatepass")
    payload = query_rest + body_rest
    return any(hmac.compare_digest(sign_hmac(secret, text).encode(), claimed) for text in (payload, unquote(payload)))


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
