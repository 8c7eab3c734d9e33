"""What the paper exchange lists: trading rules, leverage brackets, and where a simulated market starts.

Ticks, steps, minimum notionals and brackets are the exchange's (protocol reference §7.2, §7.7, state of 2026); limits
it does not publish there are filled in on the generous side. Prices and notionals in quote asset, quantities in base
asset. Used by the market sources; the paper venue reads them through `MarketSource.rules` and `.brackets`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.symbol_rules import SymbolRules

FUNDING_INTERVAL_HOURS = 8


class SimulatedStart(msgspec.Struct, frozen=True):
    """How a listed symbol looks when simulated. Rough 2026 sizes; nothing depends on them being right."""

    price: float
    """Price at the first moment that is lived through, in quote asset."""
    spread_bps: float
    """Typical spread at ordinary volatility, in basis points of the price (never less than a tick)."""
    depth_notional: float
    """Typical notional at the best bid, and at the best ask."""
    minute_notional: float
    """Typical notional traded in a minute."""


def _rules(
    base: str, quote: str, tick: str, step: str, notional: int, largest: int, market_largest: int, fee: str = "0.015"
) -> SymbolRules:
    tick_size, step_size = Decimal(tick), Decimal(step)
    return SymbolRules(
        symbol=base + quote,
        base_asset=base,
        quote_asset=quote,
        tick_size=tick_size,
        step_size=step_size,
        min_price=tick_size,
        max_price=tick_size * 100_000_000,
        min_quantity=step_size,
        max_quantity=Decimal(largest),
        market_max_quantity=Decimal(market_largest),
        min_notional=Decimal(notional),
        liquidation_fee=Decimal(fee),
    )


_TABLE = (
    # base, quote, tick, step, minimum notional, largest LIMIT and MARKET quantity
    _rules("BTC", "USDT", "0.10", "0.001", 50, 1_000, 120, "0.0125"),
    _rules("ETH", "USDT", "0.01", "0.001", 20, 10_000, 2_000, "0.0125"),
    _rules("SOL", "USDT", "0.0100", "0.01", 5, 1_000_000, 50_000),
    _rules("BNB", "USDT", "0.010", "0.01", 5, 100_000, 2_000),
    _rules("XRP", "USDT", "0.0001", "0.1", 5, 10_000_000, 2_000_000),
    _rules("DOGE", "USDT", "0.000010", "1", 5, 50_000_000, 30_000_000),
    _rules("ADA", "USDT", "0.00010", "1", 5, 20_000_000, 3_000_000),
    _rules("LTC", "USDT", "0.01", "0.001", 20, 100_000, 5_000),
    _rules("LINK", "USDT", "0.001", "0.01", 20, 1_000_000, 50_000),
    _rules("AVAX", "USDT", "0.0010", "1", 5, 1_000_000, 100_000),
    _rules("SUI", "USDT", "0.000100", "0.1", 5, 10_000_000, 1_000_000),
    _rules("1000PEPE", "USDT", "0.0000001", "1", 5, 1_000_000_000, 100_000_000),
    _rules("BTC", "USDC", "0.1", "0.001", 50, 1_000, 120, "0.0125"),
    _rules("ETH", "USDC", "0.01", "0.001", 20, 10_000, 2_000, "0.0125"),
)

LISTED_RULES: dict[str, SymbolRules] = {rules.symbol: rules for rules in _TABLE}
"""The trading rules of every symbol known by its own name; more can be simulated (`simulated_listing`)."""

SIMULATED_STARTS: dict[str, SimulatedStart] = {
    "BTCUSDT": SimulatedStart(91_234.5, 0.05, 400_000, 9_000_000),
    "ETHUSDT": SimulatedStart(3_105.25, 0.10, 250_000, 7_000_000),
    "SOLUSDT": SimulatedStart(136.42, 0.9, 90_000, 2_000_000),
    "BNBUSDT": SimulatedStart(874.15, 0.5, 60_000, 500_000),
    "XRPUSDT": SimulatedStart(2.0534, 0.7, 80_000, 1_200_000),
    "DOGEUSDT": SimulatedStart(0.14213, 0.9, 60_000, 700_000),
    "ADAUSDT": SimulatedStart(0.4127, 2.5, 50_000, 300_000),
    "LTCUSDT": SimulatedStart(83.27, 1.3, 40_000, 200_000),
    "LINKUSDT": SimulatedStart(13.284, 1.0, 40_000, 300_000),
    "AVAXUSDT": SimulatedStart(13.571, 1.0, 40_000, 250_000),
    "SUIUSDT": SimulatedStart(1.5162, 1.0, 40_000, 400_000),
    "1000PEPEUSDT": SimulatedStart(0.0045631, 0.8, 40_000, 400_000),
    "BTCUSDC": SimulatedStart(91_236.0, 0.06, 150_000, 1_500_000),
    "ETHUSDC": SimulatedStart(3_105.31, 0.15, 100_000, 1_200_000),
}

MADE_UP_SYMBOLS = tuple(f"SIM{number:03}USDT" for number in range(1, 401))
"""Contracts that no exchange has, for a simulated market as wide as a real one."""


def simulated_listing(symbol: str) -> tuple[SymbolRules, SimulatedStart]:
    """The trading rules of `symbol`, and how it starts when simulated.

    A made-up contract is drawn by its own name and so the same in every market: a price between 0.02 and 2,000, a
    tick of 0.1 to 1 basis points, and the thin book of a small coin.

    Raises:
        KeyError: it is neither listed nor made up.
    """
    if symbol in LISTED_RULES:
        return LISTED_RULES[symbol], SIMULATED_STARTS[symbol]
    if symbol not in MADE_UP_SYMBOLS:
        raise KeyError(symbol)
    draw = random.Random(symbol)
    price = Decimal(repr(math.exp(draw.uniform(math.log(0.02), math.log(2_000)))))
    magnitude = price.adjusted()
    tick = Decimal(1).scaleb(magnitude - 4)
    rules = _rules(
        symbol.removesuffix("USDT"),
        "USDT",
        f"{tick:f}",
        f"{Decimal(1).scaleb(-max(0, magnitude + 1)):f}",
        5,
        int(10_000_000 / price),
        int(1_000_000 / price),
    )
    start = SimulatedStart(
        price=float(price.quantize(tick)),
        spread_bps=round(draw.uniform(0.8, 4.0), 2),
        depth_notional=round(draw.uniform(8_000, 50_000)),
        minute_notional=round(draw.uniform(40_000, 400_000)),
    )
    return rules, start


_BRACKETS = {
    # notional cap : largest leverage : maintenance margin in percent : maintenance amount ("cum")
    "BTCUSDT": """300000:150:0.4:0 800000:100:0.5:300 3000000:75:0.65:1500 12000000:50:1:12000 70000000:25:2:132000
        100000000:20:2.5:482000 230000000:10:5:2982000 480000000:5:10:14482000 600000000:4:12.5:26482000
        800000000:3:15:41482000 1200000000:2:25:121482000 1800000000:1:50:421482000""",
    "ETHUSDT": """300000:150:0.4:0 800000:100:0.5:300 3000000:75:0.65:1500 12000000:50:1:12000 50000000:25:2:132000
        65000000:20:2.5:382000 150000000:10:5:2007000 320000000:5:10:9507000 400000000:4:12.5:17507000
        530000000:3:15:27507000 800000000:2:25:80507000 1200000000:1:50:280507000""",
    "SOLUSDT": """50000:100:0.5:0 400000:75:0.65:75 1000000:50:1:1475 4000000:25:2:11475 8000000:20:2.5:31475
        40000000:10:5:231475 80000000:5:10:2231475 100000000:4:12.5:4231475 200000000:2:25:16731475
        400000000:1:50:66731475""",
    "BNBUSDT": """10000:75:0.5:0 200000:50:0.6:10 400000:40:1:810 1500000:25:2:4810 3000000:20:2.5:12310
        15000000:10:5:87310 30000000:5:10:837310 37500000:4:12.5:1587310 75000000:2:25:6274810
        150000000:1:50:25024810""",
    "XRPUSDT": """40000:100:0.5:0 80000:75:0.6:40 150000:50:1:360 400000:40:1.25:735 1000000:25:2:3735
        2000000:20:2.5:8735 10000000:10:5:58735 20000000:5:10:558735 25000000:4:12.5:1058735
        50000000:2:25:4183735 100000000:1:50:16683735""",
    "DOGEUSDT": """80000:75:0.65:0 150000:50:1:280 750000:40:1.25:655 2000000:25:2:6280 4000000:20:2.5:16280
        20000000:10:5:116280 40000000:5:10:1116280 50000000:4:12.5:2116280 100000000:2:25:8366280
        200000000:1:50:33366280""",
    "BTCUSDC": """50000:125:0.4:0 500000:100:0.5:50 10000000:50:1:2550 80000000:20:2.5:152550
        150000000:10:5:2152550 300000000:5:10:9652550 450000000:4:12.5:17152550 600000000:3:15:28402550
        800000000:2:25:88402550 1000000000:1:50:288402550""",
}

_STAND_IN = "DOGEUSDT"
"""The table of a middling contract, for symbols whose own is not known."""


def _brackets(rows: str) -> tuple[LeverageBracket, ...]:
    floor, brackets = Decimal(0), []
    for number, row in enumerate(rows.split(), start=1):
        cap, leverage, percent, amount = row.split(":")
        brackets.append(
            LeverageBracket(
                bracket=number,
                initial_leverage=int(leverage),
                notional_floor=floor,
                notional_cap=Decimal(cap),
                maintenance_margin_ratio=Decimal(percent) / 100,
                maintenance_amount=Decimal(amount),
            )
        )
        floor = Decimal(cap)
    return tuple(brackets)


LISTED_BRACKETS: dict[str, tuple[LeverageBracket, ...]] = {
    symbol: _brackets(rows) for symbol, rows in _BRACKETS.items()
}


def brackets_of(symbol: str) -> tuple[LeverageBracket, ...]:
    """The leverage brackets of `symbol`; those of a middling contract where its own are not known."""
    return LISTED_BRACKETS.get(symbol, LISTED_BRACKETS[_STAND_IN])


_QUOTE_ASSETS = ("USDT", "USDC", "BUSD")


def infer_rules(symbol: str, *, prices: Iterable[Decimal], quantities: Iterable[Decimal]) -> SymbolRules:
    """Trading rules for a symbol that is only known from a recording.

    The grids are those of the decimals seen: one unit of the last place that any sample uses. Real grids may be
    coarser, never finer.
    """
    tick_size, step_size = _grid(prices), _grid(quantities)
    quote = next((asset for asset in _QUOTE_ASSETS if symbol.endswith(asset)), "USDT")
    return SymbolRules(
        symbol=symbol,
        base_asset=symbol.removesuffix(quote),
        quote_asset=quote,
        tick_size=tick_size,
        step_size=step_size,
        min_price=tick_size,
        max_price=tick_size * 100_000_000,
        min_quantity=step_size,
        max_quantity=step_size * 100_000_000,
        market_max_quantity=step_size * 10_000_000,
        min_notional=Decimal(5),
        liquidation_fee=Decimal("0.015"),
    )


def _grid(samples: Iterable[Decimal]) -> Decimal:
    """One unit of the last decimal place in use; 1 where every sample is whole."""
    places = 0
    for sample in samples:
        exponent = sample.normalize().as_tuple().exponent
        if isinstance(exponent, int):
            places = max(places, -exponent)
    return Decimal(1).scaleb(-places)
