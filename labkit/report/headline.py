"""Headline: the day in one look, and the figures an index of days needs.

Money in quote asset, ratios as fractions in `figures()`, percent only in what is shown. Used as the report notebook's
first output; `labkit.report.notebook_run` finds its figures by `HEADLINE_MIME` and writes them into the page.
"""

from __future__ import annotations

from html import escape
from importlib import resources
from typing import Any

import msgspec

from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.day_history import DayHistory
from labkit.domain.reasons import because
from labkit.report import metrics
from labkit.report.amounts import signed, tone
from labkit.report.days import clock_text
from labkit.report.tables import QUOTE

HEADLINE_MIME = "application/vnd.labkit.headline+json"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the index. Money as text, exact; ratios are fractions, None where there is none."""

    day: str
    market: str
    complete: bool
    result: str
    day_return: float
    closing_equity: str
    max_drawdown: float
    trades: int
    win_rate: float | None
    profit_factor: float | None
    fees: str
    funding: str
    decisions: int
    refused: int
    books_agree: bool


class Headline:
    """What a person wants to know first."""

    def __init__(self, history: DayHistory) -> None:
        self._history = history
        self._bridge = metrics.equity_bridge(history)
        self._drawdown = metrics.max_drawdown(history)
        self._trades = metrics.trade_statistics(history.trades)
        self._decisions = metrics.decision_counts(history.decisions)
        self._agrees = metrics.imbalance(history) == metrics.NOTHING

    def figures(self) -> Figures:
        """The line of the index."""
        return Figures(
            day=self._history.day,
            market=self._history.market,
            complete=self._complete,
            result=str(self._bridge.result),
            day_return=self._bridge.day_return,
            closing_equity=str(self._bridge.closing),
            max_drawdown=self._drawdown.fraction if self._drawdown else 0.0,
            trades=self._trades.count,
            win_rate=self._trades.win_rate,
            profit_factor=self._trades.profit_factor,
            fees=str(self._bridge.booked.fees),
            funding=str(self._bridge.booked.funding),
            decisions=self._decisions.total,
            refused=self._decisions.refusals,
            books_agree=self._agrees,
        )

    @property
    def _complete(self) -> bool:
        """Whether the record reaches the day's last minute."""
        return self._history.end_ms - self._history.start_ms >= DAY_MS - 2 * MINUTE_MS

    def sentences(self) -> list[str]:
        """The day in words."""
        bridge, trades, counts = metrics.in_whole_cents(self._bridge), self._trades, self._decisions
        until = "" if self._complete else f" by {clock_text(self._history.end_ms)} UTC, where the record ends,"
        way = "gained" if bridge.result > 0 else "lost" if bridge.result < 0 else "neither gained nor lost"
        amount = f" {abs(bridge.result):,.2f} {QUOTE} ({signed(100 * bridge.day_return)} %)" if bridge.result else ""
        told = [f"The account {way}{amount}{until} and stands at {bridge.closing:,.2f} {QUOTE}."]
        flows = bridge.booked
        told.append(
            f"Price moves booked {signed(flows.price)}, slippage {signed(flows.slippage)}, fees "
            f"{signed(flows.fees)}, funding {signed(flows.funding)}; open positions changed by "
            f"{signed(bridge.unrealized)} {QUOTE} at mark price."
        )
        if trades.count:
            ratio = f", {trades.profit_factor:.2f} won for each 1 lost" if trades.profit_factor is not None else ""
            told.append(f"{_count(trades.count, 'trade')} closed, {trades.wins} with a profit{ratio}.")
        else:
            told.append("No trade was closed.")
        if counts.total:
            reasons = list(counts.refused.items())
            main = f", most often because {because(reasons[0][0])} ({reasons[0][1]:,})" if reasons else ""
            told.append(
                f"Of {_count(counts.total, 'decision')} {counts.taken} opened a trade; "
                f"{counts.refusals} were refused{main}."
            )
        told.append(
            "The flows, one by one, agree with the account's totals to the last digit."
            if self._agrees
            else "THE BOOKS DO NOT AGREE: the flows, one by one, differ from the account's totals. See the last table."
        )
        return told

    def __repr__(self) -> str:
        return "\n".join([f"{self._history.day} · {self._history.market}", *self.sentences()])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {
            "text/plain": repr(self),
            "text/html": self._html(),
            HEADLINE_MIME: msgspec.to_builtins(self.figures()),
        }

    def _html(self) -> str:
        history = self._history
        css = resources.files("labkit.report").joinpath("fragments.css").read_text()
        until = "" if self._complete else f", until {clock_text(history.end_ms)} UTC"
        cards = "".join(
            f'<div class="labkit-card"><dt>{escape(name)}</dt><dd class="{tone}">{escape(value)}</dd>'
            f"<small>{escape(note)}</small></div>"
            for name, value, note, tone in self._cards()
        )
        words = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences())
        disclosure = f'<p class="labkit-disclosure">{escape(history.disclosure)}</p>' if history.disclosure else ""
        return (
            f'<style>{css}</style><div class="labkit-headline">'
            f'<p class="labkit-kicker">{escape(history.market)} market · {escape(", ".join(history.symbols))}</p>'
            f'<p class="labkit-day">{escape(history.day)}<small>UTC{until}</small></p>{disclosure}'
            f'<dl class="labkit-cards">{cards}</dl><ul class="labkit-words">{words}</ul></div>'
        )

    def _cards(self) -> list[tuple[str, str, str, str]]:
        bridge, trades, drawdown = metrics.in_whole_cents(self._bridge), self._trades, self._drawdown
        volatility = metrics.annualized_volatility(self._history)
        return [
            ("Result", signed(bridge.result), f"{QUOTE}, {signed(100 * bridge.day_return)} %", tone(bridge.result)),
            ("Equity", f"{bridge.closing:,.2f}", f"{QUOTE}, from {bridge.opening + bridge.deposits:,.2f}", ""),
            (
                "Max drawdown",
                f"−{100 * drawdown.fraction:.2f} %" if drawdown else "0.00 %",
                f"at {clock_text(drawdown.trough_ms)} UTC" if drawdown else "equity never fell",
                "",
            ),
            (
                "Volatility",
                "–" if volatility is None else f"{100 * volatility:.1f} %",
                "of equity, a 365-day year",
                "",
            ),
            (
                "Trades",
                str(trades.count),
                "none closed" if trades.win_rate is None else f"{100 * trades.win_rate:.0f} % won",
                "",
            ),
            (
                "Profit factor",
                "–" if trades.profit_factor is None else f"{trades.profit_factor:.2f}",
                "won for each 1 lost",
                "",
            ),
            ("Fees", signed(bridge.booked.fees), QUOTE, tone(bridge.booked.fees)),
            ("Funding", signed(bridge.booked.funding), QUOTE, tone(bridge.booked.funding)),
        ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"
