"""The key of an exchange account and what signs its requests: used, never shown, copied, pickled or written.

`BinanceClient` is the only reader. They come from the environment or from the paper exchange of the same lab.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from labkit.errors import ConfigError
from labkit.wire.signing import PEM_BEGINS, make_signer, sign_hmac

MASK = "Credentials(***)"
KEY_VARIABLE = "LABKIT_API_KEY"
SECRET_VARIABLE = "LABKIT_API_SECRET"
PRIVATE_KEY_VARIABLE = "LABKIT_API_PRIVATE_KEY"


class Credentials:
    """An API key and what its requests are signed with.

    Args:
        api_key: the name the exchange knows the key by.
        api_secret: the HMAC secret, or the private key (RSA or Ed25519, PKCS #8 as PEM, no passphrase) whose public
            half is registered at the exchange. Binance recommends Ed25519: the exchange then holds nothing to steal.

    Raises:
        ConfigError: key or secret is empty or not printable ASCII (a pasted line break, a smart quote), or the PEM is
            no such private key.
    """

    __slots__ = ("_key", "_sign")

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._key = _plain("API key", api_key)
        self._sign: Callable[[str], str]
        if api_secret.lstrip().startswith(PEM_BEGINS):
            self._sign = make_signer(api_secret.strip())
        else:
            secret = _plain("API secret", api_secret)
            self._sign = lambda payload: sign_hmac(secret, payload)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Credentials:
        """The credentials in `LABKIT_API_KEY` and either `LABKIT_API_SECRET` or `LABKIT_API_PRIVATE_KEY`.

        The latter is the path of a PEM file that nobody else can read, or the PEM itself.

        Raises:
            ConfigError: one of them is not set, both kinds are, or the file is missing or open to others; the message
                names the variable.
        """
        variables = os.environ if environ is None else environ
        key, secret, private = (variables.get(v, "") for v in (KEY_VARIABLE, SECRET_VARIABLE, PRIVATE_KEY_VARIABLE))
        if not key:
            raise ConfigError(f"environment variable {KEY_VARIABLE} is not set", field=KEY_VARIABLE)
        if not secret and not private:
            raise ConfigError(
                f"environment variable {SECRET_VARIABLE} (or {PRIVATE_KEY_VARIABLE}) is not set", field=SECRET_VARIABLE
            )
        if secret and private:
            raise ConfigError(
                f"environment variables {SECRET_VARIABLE} and {PRIVATE_KEY_VARIABLE} are both set: unset one",
                field=PRIVATE_KEY_VARIABLE,
            )
        return cls(key, secret or _private_pem(private))

    @property
    def api_key(self) -> str:
        """Sent with every request that needs an account."""
        return self._key

    def sign(self, payload: str) -> str:
        """The signature of `payload`, to be percent-encoded; what it is made with never leaves this object."""
        return self._sign(payload)

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not copied, pickled or written")


def _plain(name: str, text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(f"{name}: empty, or with characters no key has (value not shown)", field=name)
    return text


def _private_pem(told: str) -> str:
    if told.lstrip().startswith(PEM_BEGINS):
        # Where a variable cannot hold line breaks, they are written out.
        return told.replace("\\n", "\n")
    path = Path(told).expanduser()
    try:
        others_may = path.stat().st_mode & 0o077 if os.name == "posix" else 0
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError):
        raise ConfigError(
            f"environment variable {PRIVATE_KEY_VARIABLE}: neither a PEM nor a readable PEM file (value not shown)",
            field=PRIVATE_KEY_VARIABLE,
        ) from None
    if others_may:
        raise ConfigError(
            f"environment variable {PRIVATE_KEY_VARIABLE}: others can open that file; run chmod 600 on it first",
            field=PRIVATE_KEY_VARIABLE,
        )
    if not text.lstrip().startswith(PEM_BEGINS):
        raise ConfigError(
            f"environment variable {PRIVATE_KEY_VARIABLE}: that file holds no PEM (value not shown)",
            field=PRIVATE_KEY_VARIABLE,
        )
    return text
