"""What the engine asks its shell to do. A command's outcome comes back as an event."""

from __future__ import annotations

import msgspec

from labkit.domain.orders import OrderIntent


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all commands."""


class PlaceOrder(Command, frozen=True, kw_only=True):
    """Send this intent once. Its ledger record is committed before this command is carried out."""

    intent: OrderIntent


class SettleDoubt(Command, frozen=True, kw_only=True):
    """Ask the exchange about this intent until its outcome is proven; never resend it."""

    intent: OrderIntent
    sent_at_ms: int


class Notify(Command, frozen=True, kw_only=True):
    """Tell a person. `severity` is info, warning or alarm."""

    severity: str
    text: str
