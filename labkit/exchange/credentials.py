"""The key and the secret of an exchange account: used to sign, never shown, copied, pickled or written.

`BinanceClient` is the only reader. They come from the environment or from the paper exchange of the same lab.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NoReturn

from labkit.errors import ConfigError
from labkit.wire.signing import sign_hmac

MASK = "Credentials(***)"
KEY_VARIABLE = "LABKIT_API_KEY"
SECRET_VARIABLE = "LABKIT_API_SECRET"


class Credentials:
    """An API key and its HMAC secret.

    Raises:
        ConfigError: key or secret is empty or not printable ASCII (a pasted line break, a smart quote).
    """

    __slots__ = ("_key", "_secret")

    def __init__(self, api_key: str, api_secret: str) -> None:
        for name, text in (("API key", api_key), ("API secret", api_secret)):
            if not text or not text.isascii() or not text.isprintable() or " " in text:
                raise ConfigError(f"{name}: empty, or with characters no key has (value not shown)", field=name)
        self._key = api_key
        self._secret = api_secret

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Credentials:
        """The credentials in `LABKIT_API_KEY` and `LABKIT_API_SECRET`.

        Raises:
            ConfigError: one of them is not set; the message names it.
        """
        variables = os.environ if environ is None else environ
        for name in (KEY_VARIABLE, SECRET_VARIABLE):
            if not variables.get(name):
                raise ConfigError(f"environment variable {name} is not set", field=name)
        return cls(variables[KEY_VARIABLE], variables[SECRET_VARIABLE])

    @property
    def api_key(self) -> str:
        """Sent with every request that needs an account."""
        return self._key

    def sign(self, payload: str) -> str:
        """The HMAC-SHA256 of `payload` in hexadecimal; the secret itself never leaves this object."""
        return sign_hmac(self._secret, payload)

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not copied, pickled or written")
