"""Amounts as a person reads them: signed, with a real minus, and toned by their sign."""

from __future__ import annotations

from decimal import Decimal


def signed(value: Decimal | float) -> str:
    """Two decimals with a sign; nothing is neither plus nor minus."""
    text = f"{value:+,.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def tone(value: Decimal | float) -> str:
    """The CSS class of a gain or a loss; empty for neither."""
    return "gain" if value > 0 else "loss" if value < 0 else ""
