"""G8: orders whose sending ends in doubt, six ways of it: each executed at most once, and settled by asking.

In virtual time, judged by the exchange's own truth table.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from labkit.config import ClientConfig, PaperConfig
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.errors import OutcomeUnknown
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.truth_table import truth_table
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Match, Script, Spell
from labkit.research.targets.figure import Figure

START_MS = 1_767_571_200_000
KINDS = {
    "execute-then-drop-reply": True,
    "drop-before-execute": False,
    "unknown-executed": True,
    "unknown-not-executed": False,
    "timeout-executed-late": True,
    "truncate-reply": True,
}
"""Six ways to leave a client in doubt, and whether the order was executed."""
SENDS = 100
"""Of each kind; a deep test has 500."""


def ambiguous(kind: str, count: int, *, resends: bool = False) -> tuple[dict[str, int], int]:
    """Executions by intent after `count` sends that all end in doubt, and how many were settled wrongly.

    Args:
        resends: do what must never be done, as a control: send again.
    """
    loop = VirtualTimeLoop()
    source = SimulatedMarket(
        ("BTCUSDT",), seed=1, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=0.1
    )
    clock = VirtualClock(loop, start_ms=START_MS)
    venue = Venue(source, PaperConfig(opening_balance=Decimal(100_000_000)), api_key="k", api_secret="s")
    orders = Match(method="POST", path="/fapi/v1/order")
    venue.weather.begin(Script(name="doubt", spells=(Spell(fault=kind, match=orders),)), START_MS)
    client = BinanceClient(InProcessExchange(venue, clock), clock, ClientConfig(), Credentials("k", "s"))
    believed: dict[str, bool] = {}

    async def send(intent: OrderIntent) -> None:
        sent_ms = clock.now_ms()
        try:
            await client.place_order(intent)
        except OutcomeUnknown:
            if resends:
                venue.weather.clear(clock.now_ms())
                twin = BinanceClient(InProcessExchange(venue, clock), clock, ClientConfig(), Credentials("k", "s"))
                await twin.place_order(intent)
                return
            believed[intent.client_order_id] = await client.settle(intent, sent_ms) is not None

    async def main() -> None:
        market = asyncio.create_task(InProcessExchange(venue, clock).run())
        await asyncio.sleep(60)
        sends = []
        for number in range(count):
            intent = OrderIntent(
                client_order_id=f"g8-{number}",
                symbol="BTCUSDT",
                side=Side.BUY if number % 2 else Side.SELL,
                order_type=OrderType.MARKET,
                quantity=Decimal("0.010"),
            )
            sends.append(asyncio.create_task(send(intent)))
            # The breaker must forget each fault before the next.
            await asyncio.sleep(12)
        await asyncio.gather(*sends)
        market.cancel()

    run_in_virtual_time(main(), loop)
    table = truth_table(venue.desk)
    executions = {f"g8-{n}": table[f"g8-{n}"].executions if f"g8-{n}" in table else 0 for n in range(count)}
    wrong = sum(believed.get(name) is not (number > 0) for name, number in executions.items())
    return executions, wrong


def figures(*, count: int = SENDS, resends: bool = False) -> list[Figure]:
    """All of G8; with `resends` its control."""
    told = [ambiguous(kind, 1 if resends else count, resends=resends) for kind in KINDS]
    return [
        Figure(target="G8", name="sends that ended in doubt", value=sum(len(executions) for executions, _ in told)),
        Figure(
            target="G8",
            name="executions of one intent, most",
            value=max(number for executions, _ in told for number in executions.values()),
            limit=1,
        ),
        Figure(
            target="G8", name="intents settled wrongly or not at all", value=sum(wrong for _, wrong in told), limit=0
        ),
    ]
