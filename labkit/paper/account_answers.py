"""What the venue answers about the account: balance, positions and their risk, leverage, income, the user stream's key.

Called by `rest_routes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

import msgspec

from labkit.domain.leverage_brackets import max_notional
from labkit.domain.position import ZERO, quantize_money
from labkit.domain.symbol_rules import MARGIN_ASSET
from labkit.paper.order_desk import refused
from labkit.paper.request_parameters import Parameters, missing, page
from labkit.wire.rest_account import (
    AccountInfo,
    AccountPosition,
    Balance,
    CommissionRate,
    Income,
    LeverageSet,
    ListenKey,
    PositionRisk,
    SymbolConfig,
    encode_account,
    encode_balance,
    encode_commission_rate,
    encode_income,
    encode_leverage,
    encode_leverage_bracket,
    encode_listen_key,
    encode_position_risk,
    encode_position_risk_v2,
    encode_success,
    encode_symbol_config,
)

if TYPE_CHECKING:
    from labkit.paper.venue import Venue

Record = TypeVar("Record", bound=msgspec.Struct)


class AccountAnswers:
    """The account at one venue, as it is told on HTTP."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def account(self, parameters: Parameters, now_ms: int) -> bytes:
        account, margin = self._venue.desk.account, self._venue.desk.margin()
        positions = []
        for symbol, figures in margin.positions.items():
            holding = account.holdings[symbol]
            positions.append(
                _booked(
                    AccountPosition(
                        symbol=symbol,
                        quantity=holding.position.quantity,
                        unrealized_pnl=figures.unrealized_pnl,
                        notional=figures.notional,
                        initial_margin=figures.position_initial_margin + figures.open_order_initial_margin,
                        maintenance_margin=figures.maintenance_margin,
                        isolated_margin=holding.isolated_wallet + figures.unrealized_pnl if holding.isolated else ZERO,
                        isolated_wallet=holding.isolated_wallet,
                        update_time_ms=holding.update_time_ms,
                    )
                )
            )
        return encode_account(
            _booked(
                AccountInfo(
                    wallet_balance=account.wallet_balance,
                    unrealized_pnl=margin.unrealized_pnl,
                    margin_balance=account.wallet_balance + margin.unrealized_pnl,
                    maintenance_margin=margin.maintenance_margin,
                    initial_margin=margin.position_initial_margin + margin.open_order_initial_margin,
                    available_balance=margin.available_balance,
                    position_initial_margin=margin.position_initial_margin,
                    open_order_initial_margin=margin.open_order_initial_margin,
                    cross_wallet_balance=account.cross_wallet,
                    cross_unrealized_pnl=margin.cross_unrealized_pnl,
                    max_withdraw_amount=margin.max_withdraw,
                    positions=tuple(positions),
                )
            ),
            update_time_ms=account.update_time_ms,
        )

    def balance(self, parameters: Parameters, now_ms: int) -> bytes:
        account, margin = self._venue.desk.account, self._venue.desk.margin()
        balance = Balance(
            asset=MARGIN_ASSET,
            balance=account.wallet_balance,
            cross_wallet_balance=account.cross_wallet,
            cross_unrealized_pnl=margin.cross_unrealized_pnl,
            available_balance=margin.available_balance,
            max_withdraw_amount=margin.max_withdraw,
            update_time_ms=account.update_time_ms,
        )
        return encode_balance([_booked(balance)])

    def position_risk(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        symbols = [each for each in self._venue.desk.margin().positions if symbol in (None, each)]
        return encode_position_risk([_booked(risk) for risk in self._risks(symbols)])

    def position_risk_v2(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        symbols = [symbol] if symbol is not None else list(self._venue.boards)
        return encode_position_risk_v2(zip(map(_booked, self._risks(symbols)), self._configs(symbols), strict=True))

    def _risks(self, symbols: Sequence[str]) -> list[PositionRisk]:
        desk = self._venue.desk
        margin = desk.margin()
        risks: list[PositionRisk] = []
        for symbol in symbols:
            holding, figures = desk.account.holdings[symbol], margin.positions.get(symbol)
            mark_price = desk.marks.get(symbol, ZERO)
            if figures is None:
                risks.append(
                    PositionRisk(
                        symbol=symbol,
                        quantity=ZERO,
                        entry_price=ZERO,
                        mark_price=mark_price,
                        unrealized_pnl=ZERO,
                        liquidation_price=ZERO,
                    )
                )
                continue
            entry_price, orders = holding.position.entry_price, desk.open_notional(symbol)
            fee_share = self._venue.config.taker_fee_rate * holding.position.sign
            risks.append(
                PositionRisk(
                    symbol=symbol,
                    quantity=holding.position.quantity,
                    entry_price=entry_price,
                    mark_price=mark_price,
                    unrealized_pnl=figures.unrealized_pnl,
                    liquidation_price=figures.liquidation_price,
                    # The exchange's formula is not published; for a fresh position it is entry plus the fee paid.
                    break_even_price=quantize_money(entry_price * (1 + fee_share)),
                    isolated_margin=holding.isolated_wallet + figures.unrealized_pnl if holding.isolated else ZERO,
                    notional=figures.notional,
                    isolated_wallet=holding.isolated_wallet,
                    initial_margin=figures.position_initial_margin + figures.open_order_initial_margin,
                    maintenance_margin=figures.maintenance_margin,
                    position_initial_margin=figures.position_initial_margin,
                    open_order_initial_margin=figures.open_order_initial_margin,
                    bid_notional=orders.bids,
                    ask_notional=orders.asks,
                    update_time_ms=holding.update_time_ms,
                )
            )
        return risks

    def _configs(self, symbols: Sequence[str]) -> list[SymbolConfig]:
        desk = self._venue.desk
        configs: list[SymbolConfig] = []
        for symbol in symbols:
            holding = desk.account.holdings[symbol]
            configs.append(
                SymbolConfig(
                    symbol,
                    "ISOLATED" if holding.isolated else "CROSSED",
                    holding.leverage,
                    max_notional(holding.leverage, desk.brackets[symbol]),
                )
            )
        return configs

    def symbol_config(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        return encode_symbol_config(self._configs([symbol] if symbol is not None else list(self._venue.boards)))

    def leverage(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        leverage = parameters.integer("leverage")
        if leverage is None:
            raise missing("leverage")
        largest = self._venue.desk.set_leverage(symbol, leverage, now_ms)
        return encode_leverage(LeverageSet(symbol, leverage, largest))

    def margin_type(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        margin_type = parameters.text("marginType")
        if margin_type not in ("ISOLATED", "CROSSED"):
            raise refused(-1130, "Data sent for parameter 'marginType' is not valid.")
        self._venue.desk.set_margin_type(symbol, isolated=margin_type == "ISOLATED", now_ms=now_ms)
        return encode_success()

    def set_position_mode(self, parameters: Parameters, now_ms: int) -> bytes:
        parameters.text("dualSidePosition")
        if parameters.flag("dualSidePosition"):
            raise refused(-4067, "Position side cannot be changed: this exchange knows one-way mode only.")
        raise refused(-4059, "No need to change position side.")

    def leverage_bracket(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol, brackets = parameters.optional_symbol(), self._venue.desk.brackets
        return encode_leverage_bracket(brackets if symbol is None else {symbol: brackets[symbol]})

    def commission_rate(self, parameters: Parameters, now_ms: int) -> bytes:
        config = self._venue.config
        return encode_commission_rate(CommissionRate(parameters.symbol(), config.maker_fee_rate, config.taker_fee_rate))

    def income(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol, kind = parameters.optional_symbol(), parameters.values.get("incomeType")
        rows = [
            Income(
                symbol=income.symbol,
                income_type=income.kind,
                amount=income.amount,
                asset=MARGIN_ASSET,
                time_ms=income.time_ms,
                transaction_id=number,
                trade_id=str(income.trade_id or ""),
            )
            for number, income in enumerate(self._venue.desk.income, start=1)
            if (symbol is None or income.symbol == symbol) and (not kind or income.kind == kind)
        ]
        return encode_income(page(rows, parameters, 100, lambda row: row.time_ms))

    def create_listen_key(self, parameters: Parameters, now_ms: int) -> bytes:
        return encode_listen_key(ListenKey(self._venue.create_listen_key(now_ms)))

    def renew_listen_key(self, parameters: Parameters, now_ms: int) -> bytes:
        return encode_listen_key(ListenKey(self._venue.renew_listen_key(now_ms)))

    def close_listen_key(self, parameters: Parameters, now_ms: int) -> bytes:
        self._venue.close_listen_key()
        return b"{}"


_ON_A_GRID = frozenset({"quantity", "entry_price", "break_even_price", "liquidation_price"})


def _booked(record: Record) -> Record:
    """`record` with its amounts of money in the eight decimals the exchange writes; nothing booked has more."""
    amounts = {
        name: quantize_money(value)
        for name in record.__struct_fields__
        if name not in _ON_A_GRID and isinstance(value := getattr(record, name), Decimal)
    }
    return msgspec.structs.replace(record, **amounts)
