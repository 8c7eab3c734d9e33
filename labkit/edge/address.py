"""The address of an exchange as a person typed it, checked before anything is opened."""

from __future__ import annotations

from urllib.parse import urlsplit

from labkit.errors import ConfigError


def exchange_address(text: str, *, schemes: tuple[str, str]) -> str:
    """`text` without a trailing slash.

    Raises `ConfigError` unless it is one of the two schemes, a host, at most a port and a path: nothing that a
    library would fail on later, or read differently than a person does.
    """
    expected = f"expected {schemes[0]}://host:port or {schemes[1]}://host"
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna")
        # Reading the port is what checks it.
        sound = parts.scheme in schemes and host and parts.port != 0
    except ValueError as exc:
        raise ConfigError(f"not the address of an exchange: {text!r} ({exc}); {expected}") from exc
    if not sound or parts.query or parts.fragment or "@" in parts.netloc or not text.isprintable() or " " in text:
        raise ConfigError(f"not the address of an exchange: {text!r}; {expected}")
    return text.rstrip("/")
