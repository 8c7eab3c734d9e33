"""labkit: a trading laboratory that lives in a Jupyter notebook.

    import labkit
    lab = labkit.start()      # a paper exchange, live prices and a trader that learns, all in the background
    lab.monitor()             # watch them

In a notebook, `%load_ext labkit` gives `%lab`, `%why SYMBOL`, `%report` and `%flatten`.
Importing labkit starts nothing, opens nothing and patches nothing; the parts below load when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "BinanceClient": "labkit.exchange.binance_client",
    "Config": "labkit.config",
    "DailyReporter": "labkit.report.daily_reporter",
    "DataService": "labkit.market.data_service",
    "Lab": "labkit.lab",
    "LabkitError": "labkit.errors",
    "PaperExchange": "labkit.paper.paper_exchange",
    "PositionController": "labkit.engine.position_controller",
    "SelfLearningTrader": "labkit.trader.self_learning_trader",
    "Snapshot": "labkit.domain.snapshot",
    "UnifiedScheduler": "labkit.engine.unified_scheduler",
    "WebSocketMonitor": "labkit.market.websocket_monitor",
    "backtest": "labkit.research.backtest",
    "load_config": "labkit.config",
    "load_day": "labkit.report.days",
    "read_day": "labkit.engine.history",
    "rehearse": "labkit.lab",
    "search": "labkit.research.sweep",
    "start": "labkit.lab",
    "sweep": "labkit.research.sweep",
    "tune": "labkit.lab_tuner",
    "walk_forward": "labkit.research.walk_forward",
}

__version__ = "0.1.0"
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        if not name.startswith("_"):
            from labkit.domain.slips import unknown_name

            raise unknown_name("labkit", name, __all__) from None
        raise AttributeError(f"module 'labkit' has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext labkit`: the magics of `labkit.magics`."""
    from labkit.magics import LabMagics

    shell.register_magics(LabMagics)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
