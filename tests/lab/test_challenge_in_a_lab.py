"""A challenger beside a running lab: it trades on paper, outlives a restart, and is rebuilt from the ledger."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from labkit.assembly import assemble_in_process
from labkit.domain import events as ev
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine.ledger import Ledger
from labkit.engine.recovery import fold
from labkit.errors import ConfigError
from labkit.trader.promotion import PromotionRule
from tests.lab.conftest import small_config


def live(folder: Path, minutes: int, *, begin: bool) -> bytes:
    loop = VirtualTimeLoop()

    async def story() -> bytes:
        assembly = await assemble_in_process(small_config(), folder, loop)
        await assembly.start()
        scheduler, clock = assembly.scheduler, assembly.clock
        while scheduler.state != "running":
            await clock.sleep_until(clock.now_ms() + 1_000)
        if begin:
            scheduler.challenge({"max_leverage_per_symbol": 0.1}, PromotionRule())
            with pytest.raises(ConfigError, match="under way"):
                scheduler.challenge({"max_leverage_per_symbol": 0.2}, PromotionRule())
        await clock.sleep_until(clock.now_ms() + minutes * 60_000)
        state = msgspec.json.encode(scheduler.engine.challenge)
        await assembly.stop()
        return state

    return run_in_virtual_time(story(), loop)


def test_a_challenger_trades_beside_the_champion_and_is_rebuilt_from_the_ledger(tmp_path: Path) -> None:
    live(tmp_path, 12, begin=True)
    state = live(tmp_path, 8, begin=False)
    ledger = Ledger.open(tmp_path, read_only=True)
    rebuilt = fold(small_config(), ledger)
    orders = [o for e in ledger.entries() if isinstance(e.event, ev.ShadowTraded) for o in e.event.orders]
    ledger.close()
    assert msgspec.json.encode(rebuilt.challenge) == state != b"null"
    assert {order.book for order in orders} == {"champion", "challenger"}
    by_symbol = {(o.symbol, o.book): abs(o.quantity) for o in orders if o.plan}
    compared = [(by_symbol[s, "challenger"], by_symbol[s, "champion"]) for s, b in by_symbol if b == "challenger"]
    assert compared
    assert all(challenger < champion for challenger, champion in compared)
