"""backtest: the trader through recorded or made-up history, with everything it did as tables and pictures.

    result = labkit.backtest(["BTCUSDT", "ETHUSDT"], "2024-01-01", "2024-02-15", trader={"horizon_minutes": 60})
    result                  # what came of it, beside what doing nothing would have brought
    result.trades, result.daily, result.decisions, result.plot()

Fees, funding, half the spread and the caps of `risk` are on by default. Money in the quote asset, times UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from labkit.config import SECTIONS, Config, change_config, home, load_config, to_plain
from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.decisions import LEARNER
from labkit.domain.moments import Moment, moment_ms
from labkit.domain.slips import nearest, slips_answered
from labkit.domain.symbol_rules import SymbolRules
from labkit.edge.progress import progress_bar
from labkit.errors import ConfigError
from labkit.market.lake import LAKE_FOLDER, Lake
from labkit.market.tapes import TAPE_ENDINGS
from labkit.research import markets, simulation, units
from labkit.research.arguments import check_frames, check_settings, check_spread, check_symbols
from labkit.research.markets import Market
from labkit.research.simulation import DECISION, OUTCOMES, Costs, Run, warm_bars
from labkit.research.statistics import sharpe_ratio
from labkit.research.tape_markets import is_tape, market_of_tapes
from labkit.research.trials import Trial, TrialLedger
from labkit.research.units import with_units
from labkit.research.verdict import Verdict, judge, skill_of
from labkit.trader.exits import EXIT_REASONS
from labkit.trader.learner import EXPERTS
from labkit.trader.policies import Policy, probabilities_through
from labkit.trader.reliability import reliability
from labkit.trader.state import new_state

if TYPE_CHECKING:
    import pandas as pd

    from labkit.research.pictures import Picture

DEFAULT_SPREAD_BPS = 1.0
"""Bars tell no spread. What the large contracts quote is less, what the small ones quote is more."""

Data = Market | Lake | Path | str | Sequence[Path | str] | Mapping[str, "pd.DataFrame"]


class BacktestResult:
    """One run over one market. Tables are pandas DataFrames; nothing is computed before it is looked at."""

    def __init__(self, name: str, market: Market, config: Config, costs: Costs, run: Run) -> None:
        self.name = name
        self.market = market
        self.config = config
        self.costs = costs
        self.run = run

    @cached_property
    def trades(self) -> pd.DataFrame:
        """Closed trades in the order of their end: prices and PnL in quote asset, quantity in base asset, `result` in
        units of the stop's distance, before costs."""
        import pandas as pd

        rows = self.run.trades
        symbols = np.array(self.market.symbols, object)
        table = pd.DataFrame(
            {
                "symbol": symbols[rows["symbol"]],
                "side": np.where(rows["side"] > 0, "long", "short"),
                "opened": pd.to_datetime(rows["entry_ms"], unit="ms", utc=True),
                "closed": pd.to_datetime(rows["exit_ms"], unit="ms", utc=True),
                "quantity": rows["quantity"],
                "entry_price": rows["entry_price"],
                "exit_price": rows["exit_price"],
                "exit_reason": np.array(EXIT_REASONS, object)[rows["reason"]],
                "price_pnl": rows["price_pnl"],
                "commission": rows["commission"],
                "funding": rows["funding"],
                "net_pnl": rows["net_pnl"],
                "result": rows["price_pnl"] / (rows["quantity"] * rows["entry_price"] * rows["distance"]),
            }
        )
        return with_units(table, units.TRADES)

    @cached_property
    def daily(self) -> pd.DataFrame:
        """One row per UTC day: equity at its end, return, fees, funding, trades, and what the learner learned that day
        (`skill` in millinats per label, `labels`, the calibration slope and the share of it that may be counted on)."""
        import pandas as pd

        days = self.run.days
        table = pd.DataFrame(index=pd.to_datetime(days["day"] * DAY_MS, unit="ms", utc=True).rename("day"))
        table["equity"] = days["equity"]
        table["return"] = self.daily_returns
        for name in ("commission", "funding", "trades", "labels"):
            table[name] = np.diff(days[name], prepend=0)
        weight = np.diff(days["weight"], prepend=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            table["skill"] = 1000.0 * np.diff(days["skill"], prepend=0.0) / weight
        table["slope"], table["usable_slope"] = days["slope"], days["usable_slope"]
        return with_units(table, units.DAILY)

    @cached_property
    def equity(self) -> pd.Series:
        """Equity at the end of every UTC day, marked to market."""
        return self.daily["equity"]

    @cached_property
    def daily_returns(self) -> NDArray[np.float64]:
        """float64[D], fractions of the equity the day began with."""
        equity = self.run.days["equity"]
        before = np.concatenate(([float(self.config.paper.opening_balance)], equity[:-1]))
        return np.asarray(equity / before - 1.0)

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """Every decision with its numbers, trades not taken included; `outcome` is the entry, exit, hold or the gate
        that refused. `p` is the long side's probability; the rest are fractions of notional."""
        import pandas as pd

        rows = self.run.decisions
        table = pd.DataFrame(
            {name: rows[name] for name in DECISION.fields or () if name not in ("minute", "symbol", "outcome")}
        )
        table.insert(0, "time", pd.to_datetime((rows["minute"] + self._span) * MINUTE_MS, unit="ms", utc=True))
        table.insert(1, "symbol", np.array(self.market.symbols, object)[rows["symbol"]])
        table.insert(2, "outcome", np.array(OUTCOMES, object)[rows["outcome"]])
        return with_units(table, units.DECISIONS)

    @cached_property
    def outcomes(self) -> pd.Series:
        """How many decisions came to what: entries, exits, holds, and refusals by their reason."""
        import pandas as pd

        return pd.Series(self.run.counts, pd.Index(OUTCOMES, name="outcome"), name="decisions")

    @cached_property
    def expert_weights(self) -> pd.DataFrame:
        """The trust in each expert at the end of every day."""
        import pandas as pd

        weights = np.exp(self.run.days["log_weights"])
        table = pd.DataFrame(weights, self.daily.index, [expert.name for expert in EXPERTS])
        return with_units(table, {}, otherwise="share of all trust, 0 to 1")

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """What was said and what came true, in ten bins of as many labels each.

        Columns: `said` (mean probability of the long bracket), `came_true` (mean label), `error` (its standard error by
        the labels' weights, which say how far they overlap), `independent` (the sum of those) and `labels`.
        """
        import pandas as pd

        decisions, answers = self.run.decisions, self.run.answers
        symbols = len(self.market.symbols)
        asked = decisions["minute"] * symbols + decisions["symbol"]
        # Decisions are noted minute by minute and symbol by symbol: they stand in this order.
        found = np.searchsorted(asked, answers["asked_minute"] * symbols + answers["symbol"])
        said, q, weight = decisions["p"][found], answers["q"], answers["weight"]
        return with_units(pd.DataFrame(reliability(said, q, weight)._asdict()), units.CALIBRATION)

    @cached_property
    def summary(self) -> dict[str, float]:
        """The figures of the table: return and Sharpe ratio after all costs, worst drawdown, trades, and so on."""
        run, returns = self.run, self.daily_returns
        skill, weight = run.days["skill"][-1], run.days["weight"][-1]
        opening = float(self.config.paper.opening_balance)
        net = run.trades["net_pnl"]
        return {
            "return": run.final_equity / opening - 1.0,
            "sharpe": sharpe_ratio(returns),
            "max_drawdown": float(run.account["worst_drawdown"][0]),
            "trades": float(net.size),
            "winners": float((net > 0).mean()) if net.size else float("nan"),
            "fees": float(run.account["commission"][0]) / opening,
            "funding": float(run.account["funding"][0]) / opening,
            "skill": 1000.0 * float(skill / weight) if weight > 0.0 else float("nan"),
        }

    @cached_property
    def baselines(self) -> list[BacktestResult]:
        """What anybody could have done instead over the same bars at the same costs (`labkit.research.baselines`)."""
        from labkit.research.baselines import cheap_baselines

        return cheap_baselines(self)

    @property
    def comparison(self) -> pd.DataFrame:
        """The figures of this run and of its baselines, one a row; fees and funding are fractions of the balance."""
        import pandas as pd

        results = [self, *self.baselines]
        table = pd.DataFrame([result.summary for result in results], [result.name for result in results])
        return with_units(table, units.SUMMARY)

    @property
    def verdict(self) -> Verdict:
        """Is there an edge? In words, after all that was ever tried on this stretch of history."""
        from labkit.research.baselines import SKILLED

        with TrialLedger(data_folder(self.config)) as ledger:
            trials = ledger.trials(self.market.window)
        others = {own.name: own.daily_returns for own in self.baselines}
        return judge(self.daily_returns, others, trials, skill_of(self.run.days), skilled=SKILLED)

    @property
    def config_hash(self) -> str:
        """A short hash of everything that decides here: settings, costs, and what was said by whom."""
        plain = to_plain(self.config)
        spread = hashlib.sha256(np.ascontiguousarray(self.costs.spread).tobytes()).hexdigest()
        said = hashlib.sha256(self.run.days["skill"].tobytes()).hexdigest()
        balance = plain["paper"]["opening_balance"]
        decides = (self.name, plain["trader"], plain["risk"], balance, self.costs[:2], spread, said)
        return hashlib.sha256(msgspec.json.encode(decides, order="deterministic")).hexdigest()[:16]

    @property
    def remark(self) -> str:
        """Why this run could not show much, where that is so; else empty."""
        needed = warm_bars(self.config, self._span)
        lived = self.market.minutes.size
        if lived <= needed and not self.run.account["entries"][0]:
            return (
                f"No entry was possible: {lived} bars are fewer than the {needed} a trader lives through before its "
                "first entry (trader.warm_up_minutes)."
            )
        return ""

    def plot(self) -> Picture:
        """Equity and drawdown, skill per day, reliability, and the weights of the experts."""
        from labkit.research.pictures import backtest_picture

        return backtest_picture(self)

    def __repr__(self) -> str:
        figures = self.summary
        return (
            f"<BacktestResult {self.name}: {self.market.span}, return {figures['return']:+.2%}, "
            f"Sharpe {figures['sharpe']:.2f}, {figures['trades']:.0f} trades>"
            + (f"\n{self.remark}" if self.remark else "")
        )

    def _repr_html_(self) -> str:
        from labkit.research.tables import comparison_html

        table = comparison_html([self, *self.baselines], self.market.span)
        told = f"<p>{escape(self.remark)}</p>" if self.remark else ""
        if self.daily_returns.size < 2:
            return f"{table}{told}<p>One day is no track record: there is nothing to judge.</p>"
        return table + told + self.verdict._repr_html_()

    @property
    def _span(self) -> int:
        return self.market.span_minutes


@slips_answered(sections=SECTIONS)
def backtest(
    symbols: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    data: Data = LAKE_FOLDER,
    interval: str = "1m",
    trader: Mapping[str, Any] | None = None,
    risk: Mapping[str, Any] | None = None,
    spread_bps: float = DEFAULT_SPREAD_BPS,
    funding: Mapping[str, pd.DataFrame] | None = None,
    policy: Policy | None = None,
    rules: Mapping[str, SymbolRules] | None = None,
    progress: bool = True,
) -> BacktestResult:
    """Let the trader live through history and trade it. Every run is counted as a trial of its stretch of history.

    Args:
        symbols: those of the configuration if None, or all of `data` where it brings its own.
        start: first moment (UTC), and `end` the first that is not wanted any more.
        data: `"lake"` (the one in the data folder), the folder of another, `"simulated"`, a recorded tape, a folder or
            list of them (`labkit.research.tape_markets`), a DataFrame of candles per symbol (see
            `markets.market_of_frames`), or a `Market`.
        interval: of the candles taken from a lake.
        trader: settings that differ from the configuration's, e.g. `{"horizon_minutes": 60}`; `risk` likewise.
        spread_bps: the whole spread between bid and ask, in basis points of the price.
        funding: settled rates per symbol, where `data` are DataFrames.
        policy: whose probabilities are traded on instead of the learner's (`labkit.trader.policies`).
        rules: round to the grid of these symbols' rules.
        progress: show a bar of the days lived, in a terminal or a notebook, where it takes longer than two seconds.

    Raises:
        ConfigError: a setting nobody knows, or no such data; the message says what there is.
        LockBoxClosed: part of this history is kept for a last look.
    """
    config = configured(symbols, trader, risk)
    market = market_of(data, config, start, end, interval, funding, given=symbols is not None)
    check_spread(spread_bps)
    costs = simulation.costs_of(config, spread_bps * 1e-4)
    with TrialLedger(data_folder(config)) as trials:
        trials.admit(market.window)
        foreign = None
        if policy is not None:
            settings = simulation.settings_for(market, config)
            state = new_state(settings, len(market.symbols))
            with progress_bar("asking the policy", "question", shown=progress) as bar:

                def tell(done: int, of: int) -> None:
                    bar.total = of
                    bar.update(done - bar.n)

                lived = (market.symbols, market.minutes, market.rows)
                foreign = probabilities_through(policy, settings, state, *lived, tell=tell)
        run = simulation.simulate(
            market, config, costs, foreign=foreign, rules=rules, keep_decisions=True, progress=progress
        )
        result = BacktestResult(policy.name if policy else LEARNER, market, config, costs, run)
        trials.record(Trial(market.window, "backtest", result.config_hash, result.daily_returns))
    return result


def configured(
    symbols: Sequence[str] | None = None,
    trader: Mapping[str, Any] | None = None,
    risk: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of this folder with some settings changed."""
    check_settings(trader=trader, risk=risk)
    if symbols is not None:
        check_symbols(symbols)
    changed: dict[str, Any] = {"trader": dict(trader or {}), "risk": dict(risk or {})}
    if symbols is not None:
        changed["symbols"] = [symbols] if isinstance(symbols, str) else list(symbols)
    return load_config(changed, folder=home())


def data_folder(config: Config) -> Path:
    """The data folder of `config`: the lake, and the count of all trials."""
    return home() / config.data_dir


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """`config` with other values of some settings: names of the section `trader`, or dotted ones of any section.

    Raises:
        ConfigError: a name nobody knows or a value out of range.
    """
    return change_config(config, {name if "." in name else f"trader.{name}": value for name, value in settings.items()})


def market_of(
    data: Data,
    config: Config,
    start: Moment | None = None,
    end: Moment | None = None,
    interval: str = "1m",
    funding: Mapping[str, pd.DataFrame] | None = None,
    *,
    given: bool = True,
) -> Market:
    """The market `data` stands for; `given` says that the symbols of `config` were asked for."""
    if start is not None and end is not None and moment_ms(start, field="start") >= moment_ms(end, field="end"):
        raise ConfigError(f"start {start} does not lie before end {end}", field="start")
    if not isinstance(data, str | Path | Lake | Market | Mapping | Sequence):
        raise ConfigError(
            f'data: {data!r} is no market; "lake", "simulated", the folder of a lake, tapes, or DataFrames by symbol',
            field="data",
        )
    if isinstance(data, str) and data == "simulated":
        return markets.market_of_simulation(config, start, end)
    if isinstance(data, Market):
        if given and config.symbols != data.symbols:
            raise ConfigError(f"this market has {', '.join(data.symbols)}: leave `symbols` away", field="symbols")
        return data if start is None and end is None else data.between(start, end)
    if isinstance(data, Mapping):
        check_frames(data)
        chosen = {symbol: data[symbol] for symbol in (config.symbols if given else data) if symbol in data}
        if given and len(chosen) < len(config.symbols):
            missing = sorted(set(config.symbols) - set(chosen))
            raise ConfigError(f"no candles of {', '.join(missing)}; there are {', '.join(data)}", field="symbols")
        whole = markets.market_of_frames(chosen, funding=funding)
        return whole if start is None and end is None else whole.between(start, end)
    if isinstance(data, str | Path) and data != LAKE_FOLDER and not Path(data).exists():
        near = nearest(str(data), (LAKE_FOLDER, "simulated"))
        hint = f"did you mean {near[0]}?" if near else f'there are also "{LAKE_FOLDER}" and "simulated"'
        raise ConfigError(f"data: there is no file or folder {data}; {hint}", field="data")
    tapes = _tapes_of(data)
    if tapes:
        whole = market_of_tapes(tapes, config.symbols if given else None)
        return whole if start is None and end is None else whole.between(start, end)
    if start is None or end is None:
        raise ConfigError("say from when to when: start and end, e.g. 2024-01-01 and 2024-02-15", field="start")
    lake = data_folder(config) / LAKE_FOLDER if data == LAKE_FOLDER else data
    assert isinstance(lake, Lake | Path | str)
    if data == LAKE_FOLDER and not Path(lake).is_dir():  # type: ignore[arg-type]
        raise ConfigError(
            f"{lake}: nothing has been pulled yet. `labkit data pull BTCUSDT --start 2024-01-01` brings history, "
            'data="simulated" takes the simulated market',
            field="data",
        )
    return markets.market_of_lake(lake, config.symbols, start, end, interval)


def _tapes_of(data: Lake | Path | str | Sequence[Path | str]) -> list[Path]:
    """The recordings or folders of them that `data` names; none if it is a lake."""
    if isinstance(data, Lake) or data == LAKE_FOLDER:
        return []
    if isinstance(data, Path | str):
        return [Path(data)] if is_tape(Path(data)) else []
    for path in data:
        if not is_tape(Path(path)):
            raise ConfigError(f"{path} is no tape ({', '.join(TAPE_ENDINGS)}) and no folder of tapes", field="data")
    return [Path(path) for path in data]
