"""Which address may be asked what: the allow-list that keeps real money out of reach.

By structure, not by setting: requests that carry a key (orders, account, user stream) go to loopback and to the demo
hosts, production hosts are for public data, everything else is refused. The whole address is matched against one
narrow grammar, so that there is nothing to trick: no user part, no path, no escape, no other spelling of a host.
"""

from __future__ import annotations

import re
from enum import StrEnum

from labkit.errors import ForbiddenHost

PRODUCTION_REST = "https://fapi.binance.com"


class HostKind(StrEnum):
    LOOPBACK = "loopback"
    DEMO = "demo"
    PRODUCTION = "production"


KNOWN_HOSTS = {
    "127.0.0.1": HostKind.LOOPBACK,
    "localhost": HostKind.LOOPBACK,
    "[::1]": HostKind.LOOPBACK,
    "demo-fapi.binance.com": HostKind.DEMO,
    "demo-fstream.binance.com": HostKind.DEMO,
    "testnet.binancefuture.com": HostKind.DEMO,
    "fstream.binancefuture.com": HostKind.DEMO,
    "stream.binancefuture.com": HostKind.DEMO,
    "fapi.binance.com": HostKind.PRODUCTION,
    "fstream.binance.com": HostKind.PRODUCTION,
}

_ADDRESS = re.compile(r"(https?|wss?)://([a-z0-9.-]{1,253}|\[::1\])(?::([1-9][0-9]{0,4}))?/?", re.ASCII)


def host_kind(base_url: str) -> HostKind:
    """What kind of host `base_url` (scheme, host, optional port, nothing else) leads to.

    Raises:
        ForbiddenHost: the address is on no list, is not plainly written, or would send in the clear over a network.
    """
    match = _ADDRESS.fullmatch(base_url)
    kind = KNOWN_HOSTS.get(match[2]) if match else None
    if match is None or kind is None:
        allowed = ", ".join(KNOWN_HOSTS)
        raise ForbiddenHost(f"address {_shown(base_url)} is not on the allow-list ({allowed})")
    scheme, port = match[1], match[3]
    if kind is HostKind.LOOPBACK:
        if port is not None and int(port) > 65_535:
            raise ForbiddenHost(f"address {_shown(base_url)}: no such port")
        return kind
    if scheme not in ("https", "wss"):
        raise ForbiddenHost(f"address {_shown(base_url)}: only https and wss leave this machine")
    if port not in (None, "443"):
        raise ForbiddenHost(f"address {_shown(base_url)}: only port 443 leaves this machine")
    return kind


def require_trading_host(base_url: str) -> None:
    """Refuse `base_url` unless requests that carry a key may go there.

    Raises:
        ForbiddenHost: it is a production host, or on no list.
    """
    if host_kind(base_url) is HostKind.PRODUCTION:
        raise ForbiddenHost(f"{base_url} is for public data only: labkit sends no key and no order to production hosts")


def _shown(base_url: str) -> str:
    # Whatever stands before an @ may be a password, and the rest may be hostile text: shown short and escaped.
    return ascii(base_url.rpartition("@")[2][:80])
