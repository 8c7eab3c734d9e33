"""The order desk: takes orders, matches them, settles funding, liquidates. Everything the account lives through.

Pure: times and market facts are arguments. A decision becomes a `VenueRecord`, is applied to the books at once, and is
handed to `listener`; `OrderDesk.apply` alone changes state, live as on a restart. Refusals are `RequestRejected` with
the exchange's code. Called by `labkit.paper.venue` and those who answer on HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from labkit.config import PaperConfig
from labkit.domain.leverage_brackets import LeverageBracket, max_notional
from labkit.domain.market_events import MarkPrice, Quote, Trade
from labkit.domain.orders import Fill, Order, OrderIntent, OrderStatus, OrderType, Side, TimeInForce, may_become
from labkit.domain.position import ZERO, quantize_money
from labkit.domain.symbol_rules import SymbolRules, check_limit_order, check_market_order, round_to_tick
from labkit.errors import LedgerImbalance, RequestRejected, UnknownOrder
from labkit.paper import funding, margin
from labkit.paper.account import Holding, PaperAccount
from labkit.paper.margin import AccountMargin, OpenNotional
from labkit.paper.matching import MatchingBook, RestingOrder
from labkit.paper.venue_records import (
    Deposited,
    ExpiryReason,
    FundingSettled,
    LeverageSet,
    MarginTypeSet,
    MarketReached,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    PositionLiquidated,
    VenueRecord,
)

FIRST_ORDER_ID = 418_000_000_001
FIRST_TRADE_ID = 6_900_000_001
PRICE_QUANTUM = Decimal("1E-10")
"""Average prices are told in ten decimals."""


class OrderEntry(msgspec.Struct):
    """An order with what its public face does not tell."""

    order: Order
    created_ms: int
    cumulative_quote: Decimal = ZERO
    expiry_reason: ExpiryReason = ExpiryReason.NONE

    @property
    def remaining(self) -> Decimal:
        return self.order.original_quantity - self.order.executed_quantity


class Income(msgspec.Struct, frozen=True):
    """One line of the income history; `amount` in quote asset, negative when paid."""

    time_ms: int
    symbol: str
    kind: str
    amount: Decimal
    trade_id: int = 0


Listener = Callable[[VenueRecord], None]


def refused(code: int, message: str) -> RequestRejected:
    return RequestRejected(message, code=code, http_status=400)


class OrderDesk:
    """The venue's books: account, orders, fills, and the market as each symbol's orders meet it.

    Args:
        rules: trading rules by symbol; also says which symbols exist.
        brackets: leverage brackets by symbol.
        config: fees and the margin mode accounts open in.
        listener: told of every record after it was applied.
    """

    def __init__(
        self,
        rules: Mapping[str, SymbolRules],
        brackets: Mapping[str, Sequence[LeverageBracket]],
        config: PaperConfig,
        listener: Listener,
    ) -> None:
        self.rules = rules
        self.brackets = brackets
        self.account = PaperAccount(
            rules,
            isolated=not config.cross_margin,
            max_leverage={symbol: rows[0].initial_leverage for symbol, rows in brackets.items()},
        )
        self.marks: dict[str, Decimal] = {}
        self.books = {symbol: MatchingBook(rule.tick_size) for symbol, rule in rules.items()}
        self.orders: dict[int, OrderEntry] = {}
        self.fills: list[Fill] = []
        self.income: list[Income] = []
        self._config = config
        self._listener = listener
        self._by_client_id: dict[str, int] = {}
        self._open: dict[str, dict[int, OrderEntry]] = {symbol: {} for symbol in rules}
        self._funded_until: dict[str, int] = {}
        self._next_order_id = FIRST_ORDER_ID
        self._next_trade_id = FIRST_TRADE_ID

    # Reading the books

    def find(self, symbol: str, *, order_id: int | None = None, client_order_id: str | None = None) -> OrderEntry:
        """The order with this id; the exchange's own id wins if both are given. Raises `UnknownOrder` (-2013)."""
        if order_id is None and client_order_id is not None:
            order_id = self._by_client_id.get(client_order_id)
        entry = self.orders.get(order_id) if order_id is not None else None
        if entry is None or entry.order.symbol != symbol:
            raise UnknownOrder("Order does not exist.", code=-2013, http_status=400)
        return entry

    def next_client_order_id(self) -> str:
        """The id the exchange gives an order that came without one."""
        return f"paper-{self._next_order_id}"

    def open_orders(self, symbol: str | None = None) -> list[OrderEntry]:
        """Orders still in the book, oldest first."""
        if symbol is not None:
            return list(self._open[symbol].values())
        return sorted(
            (entry for entries in self._open.values() for entry in entries.values()),
            key=lambda entry: entry.order.order_id,
        )

    def open_notional(self, symbol: str) -> OpenNotional:
        """Notional of the resting orders of `symbol` that could open a position."""
        bids, asks = ZERO, ZERO
        for entry in self._open[symbol].values():
            if entry.order.reduce_only:
                continue
            if entry.order.side is Side.BUY:
                bids += entry.order.price * entry.remaining
            else:
                asks += entry.order.price * entry.remaining
        return OpenNotional(bids, asks)

    def margin(self) -> AccountMargin:
        """All margin figures at the present marks."""
        open_orders = {symbol: self.open_notional(symbol) for symbol, entries in self._open.items() if entries}
        return margin.account_margin(self.account, self.marks, self.brackets, open_orders)

    def check_invariants(self) -> None:
        """Hold every book against every other.

        Raises:
            LedgerImbalance: which law broke (I01-I04, I08, I14).
        """
        self.account.check_invariants(self.marks)
        done: dict[int, tuple[Decimal, Decimal]] = {}
        for fill in self.fills:
            quantity, quote = done.get(fill.order_id, (ZERO, ZERO))
            done[fill.order_id] = (quantity + fill.quantity, quote + fill.quantity * fill.price)
        for order_id, entry in self.orders.items():
            told = (entry.order.executed_quantity, entry.cumulative_quote)
            if told != done.get(order_id, (ZERO, ZERO)) or entry.remaining < 0:
                raise LedgerImbalance(f"I04 order {order_id}: it tells {told}, its fills {done.get(order_id)}")

    # Commands of the account's owner

    def deposit(self, amount: Decimal, now_ms: int) -> None:
        self._commit(Deposited(time_ms=now_ms, amount=amount))

    def check(self, intent: OrderIntent) -> Decimal:
        """Whether `intent` would be accepted now; the quantity it would have (reduce-only orders are trimmed).

        Raises:
            RequestRejected: with the code of the first rule it breaks.
        """
        earlier = self._by_client_id.get(intent.client_order_id)
        # As at the exchange, an id is taken only while its order is open: nothing here forgives a blind resend.
        if earlier is not None and not self.orders[earlier].order.status.is_final:
            raise refused(-4116, "ClientOrderId is duplicated.")
        rules = self.rules[intent.symbol]
        mark_price = self.marks.get(intent.symbol)
        if rules.status != "TRADING" or mark_price is None:
            raise refused(-4022, "Current market status is not trading.")
        book = self.books[intent.symbol]
        best = book.best_price(intent.side)
        if intent.price is None:
            violation = check_market_order(
                rules, quantity=intent.quantity, mark_price=mark_price, reduce_only=intent.reduce_only
            )
        else:
            violation = check_limit_order(
                rules,
                is_buy=intent.side is Side.BUY,
                price=intent.price,
                quantity=intent.quantity,
                mark_price=mark_price,
                reduce_only=intent.reduce_only,
            )
        if violation is not None:
            raise refused(violation.code, violation.message)
        if intent.price is None:
            if best is None:
                raise refused(-1112, "No orders on book for symbol.")
            band = rules.price_multiplier_up if intent.side is Side.BUY else rules.price_multiplier_down
            if (best - mark_price * band) * intent.side.sign > 0:
                raise refused(-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit.")
        elif len(self._open[intent.symbol]) >= rules.max_open_orders:
            raise refused(-2025, "Reach max open order limit.")
        quantity = intent.quantity
        holding = self.account.holdings[intent.symbol]
        if intent.reduce_only:
            if holding.position.sign * intent.side.sign >= 0:
                raise refused(-2022, "ReduceOnly Order is rejected.")
            quantity = min(quantity, abs(holding.position.quantity))
        self._check_immediacy(intent, book, quantity)
        if not intent.reduce_only:
            self._check_risk(intent, holding, best, mark_price)
        return quantity

    def place(self, intent: OrderIntent, now_ms: int) -> OrderEntry:
        """Accept an order, match it at once, and rest or expire what is left.

        Raises:
            RequestRejected: nothing happened.
        """
        quantity = self.check(intent)
        entry = self._accept(intent, quantity, now_ms)
        self._expire_own_opposite(entry, now_ms)
        worst = intent.price
        if worst is None:
            bound = self.rules[intent.symbol].market_take_bound
            worst = self.marks[intent.symbol] * (1 + intent.side.sign * bound)
        self._take(entry, worst, self._config.taker_fee_rate, now_ms)
        if entry.order.status.is_final:
            return entry
        if intent.price is None:
            self._end(entry, OrderStatus.EXPIRED, ExpiryReason.MARKET_REMAINDER, now_ms)
        elif entry.order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self._end(entry, OrderStatus.EXPIRED, ExpiryReason.IMMEDIATE_OR_CANCEL, now_ms)
        else:
            self._rest(entry)
        return entry

    def cancel(self, entry: OrderEntry, now_ms: int) -> None:
        """Take an order out of the book. Raises `UnknownOrder` (-2011) if it is not there any more."""
        if entry.order.status.is_final:
            raise UnknownOrder("Unknown order sent.", code=-2011, http_status=400)
        self._end(entry, OrderStatus.CANCELED, ExpiryReason.NONE, now_ms)

    def cancel_all(self, symbol: str, now_ms: int) -> None:
        for entry in self.open_orders(symbol):
            self._end(entry, OrderStatus.CANCELED, ExpiryReason.NONE, now_ms)

    def set_leverage(self, symbol: str, leverage: int, now_ms: int) -> Decimal:
        """Change the leverage of a symbol; the largest notional it then allows.

        Raises:
            RequestRejected: -4028 out of the table, -4161 lowered in isolated mode with a position, -2027 position
                too large, -2019 the margin would be short.
        """
        brackets = self.brackets[symbol]
        holding = self.account.holdings[symbol]
        if not 1 <= leverage <= brackets[0].initial_leverage:
            raise refused(-4028, f"Leverage {leverage} is not valid")
        mark_price = self.marks.get(symbol, ZERO)
        notional = holding.position.quantity * mark_price
        if holding.isolated and notional and leverage < holding.leverage:
            raise refused(-4161, "Leverage reduction is not supported in Isolated Margin Mode with open positions")
        largest = max_notional(leverage, brackets)
        if abs(notional) > largest:
            raise refused(-2027, "Exceeded the maximum allowable position at current leverage.")
        orders = self.open_notional(symbol)
        needed = sum(
            sign * (margin.initial_margin(notional, each) + margin.order_margin(notional, orders, each))
            for sign, each in ((1, leverage), (-1, holding.leverage))
        )
        if needed > 0 and needed > self.margin().available_balance:
            raise refused(-2019, "Margin is insufficient.")
        if leverage != holding.leverage:
            self._commit(LeverageSet(time_ms=now_ms, symbol=symbol, leverage=leverage))
        return largest

    def set_margin_type(self, symbol: str, *, isolated: bool, now_ms: int) -> None:
        """Raises RequestRejected: -4046 unchanged, -4047 open orders, -4048 open position."""
        holding = self.account.holdings[symbol]
        if holding.isolated == isolated:
            raise refused(-4046, "No need to change margin type.")
        if self._open[symbol]:
            raise refused(-4047, "Margin type cannot be changed if there exists open orders.")
        if holding.position.is_open:
            raise refused(-4048, "Margin type cannot be changed if there exists position.")
        self._commit(MarginTypeSet(time_ms=now_ms, symbol=symbol, isolated=isolated))

    # What the market does

    def on_quote(self, quote: Quote, now_ms: int) -> None:
        """A new best bid and ask: resting orders may fill."""
        self.books[quote.symbol].on_quote(quote, lambda order, offered: self._fill_maker(order, offered, now_ms))

    def on_trade(self, trade: Trade, now_ms: int) -> None:
        """A print: resting orders at its price may fill."""
        self.books[trade.symbol].on_trade(trade, lambda order, offered: self._fill_maker(order, offered, now_ms))

    def on_mark(self, mark: MarkPrice, now_ms: int) -> None:
        """A new mark price: positions that cannot carry their maintenance margin are liquidated."""
        self.marks[mark.symbol] = mark.mark_price
        holding = self.account.holdings[mark.symbol]
        if not holding.position.quantity:
            return
        if holding.isolated:
            if margin.is_isolated_lost(holding, mark.mark_price, self.brackets[mark.symbol]):
                self._liquidate_isolated(holding, now_ms)
        elif margin.is_cross_lost(self.account, self.marks, self.brackets):
            self._liquidate_cross(now_ms)

    def settle_funding(self, mark: MarkPrice, now_ms: int) -> None:
        """Settle the funding time `mark` announces, once for ever."""
        funding_time_ms = mark.next_funding_time_ms
        position = self.account.position(mark.symbol)
        if not position.is_open or self._funded_until.get(mark.symbol, 0) >= funding_time_ms:
            return
        self._commit(
            FundingSettled(
                time_ms=now_ms,
                symbol=mark.symbol,
                funding_time_ms=funding_time_ms,
                funding_rate=mark.funding_rate,
                mark_price=mark.mark_price,
                amount=funding.payment(position.quantity, mark.mark_price, mark.funding_rate),
            )
        )

    # The only way state changes

    def apply(self, record: VenueRecord) -> None:
        """Change the books by one record."""
        match record:
            case OrderFilled():
                self._apply_fill(record.fill)
            case OrderAccepted():
                self._apply_accepted(record.order, record.time_ms)
            case OrderEnded():
                self._apply_ended(record)
            case FundingSettled():
                self._funded_until[record.symbol] = record.funding_time_ms
                self.account.book_funding(record.symbol, record.amount, record.time_ms)
                self.income.append(Income(record.time_ms, record.symbol, "FUNDING_FEE", record.amount))
            case PositionLiquidated():
                self.account.book_liquidation(record.fee, record.insurance, record.time_ms)
                for amount in (-record.fee, record.insurance):
                    if amount:
                        self.income.append(Income(record.time_ms, record.symbol, "INSURANCE_CLEAR", amount))
            case LeverageSet():
                self.account.holdings[record.symbol].leverage = record.leverage
            case MarginTypeSet():
                self.account.holdings[record.symbol].isolated = record.isolated
            case Deposited():
                self.account.deposit(record.amount, record.time_ms)
                self.income.append(Income(record.time_ms, "", "TRANSFER", record.amount))
            case MarketReached():
                self.marks.update(record.marks)

    def reached(self, now_ms: int) -> MarketReached:
        """The record of having come so far."""
        open_symbols = [holding.position.symbol for holding in self.account.open_holdings()]
        return MarketReached(time_ms=now_ms, marks={symbol: self.marks[symbol] for symbol in open_symbols})

    def put_restored_orders_into_books(self) -> None:
        """After a restart: open orders stand in the book again, behind everything that will be shown."""
        for entry in self.open_orders():
            self._rest(entry)

    def _commit(self, record: VenueRecord) -> None:
        self.apply(record)
        self._listener(record)

    def _apply_accepted(self, order: Order, time_ms: int) -> None:
        entry = OrderEntry(order=order, created_ms=time_ms)
        self.orders[order.order_id] = entry
        self._by_client_id[order.client_order_id] = order.order_id
        self._open[order.symbol][order.order_id] = entry
        self._next_order_id = order.order_id + 1

    def _apply_fill(self, fill: Fill) -> None:
        entry = self.orders[fill.order_id]
        self.account.book_fill(fill)
        # Only a restart meets a fill of a symbol whose mark it does not know yet.
        self.marks.setdefault(fill.symbol, fill.price)
        self.fills.append(fill)
        self._next_trade_id = fill.trade_id + 1
        executed = entry.order.executed_quantity + fill.quantity
        entry.cumulative_quote += fill.quantity * fill.price
        entry.order = msgspec.structs.replace(
            entry.order,
            executed_quantity=executed,
            average_price=(entry.cumulative_quote / executed).quantize(PRICE_QUANTUM),
            update_time_ms=fill.trade_time_ms,
        )
        self._move(
            entry,
            OrderStatus.FILLED if executed == entry.order.original_quantity else OrderStatus.PARTIALLY_FILLED,
        )
        resting = self.books[fill.symbol].resting.get(fill.order_id)
        if resting is not None:
            resting.remaining = entry.remaining
        if entry.order.status.is_final:
            self._forget(entry)
        if fill.realized_pnl:
            self.income.append(
                Income(fill.trade_time_ms, fill.symbol, "REALIZED_PNL", fill.realized_pnl, fill.trade_id)
            )
        if fill.commission:
            self.income.append(Income(fill.trade_time_ms, fill.symbol, "COMMISSION", -fill.commission, fill.trade_id))

    def _apply_ended(self, record: OrderEnded) -> None:
        entry = self.orders[record.order_id]
        entry.order = msgspec.structs.replace(entry.order, update_time_ms=record.time_ms)
        entry.expiry_reason = record.reason
        self._move(entry, record.status)
        self._forget(entry)

    def _move(self, entry: OrderEntry, status: OrderStatus) -> None:
        if not may_become(entry.order.status, status):
            raise LedgerImbalance(f"I07 order {entry.order.order_id}: {entry.order.status} cannot become {status}")
        entry.order = msgspec.structs.replace(entry.order, status=status)

    def _forget(self, entry: OrderEntry) -> None:
        self._open[entry.order.symbol].pop(entry.order.order_id, None)
        self.books[entry.order.symbol].remove(entry.order.order_id)

    # Deciding on orders

    def _check_immediacy(self, intent: OrderIntent, book: MatchingBook, quantity: Decimal) -> None:
        if intent.price is None:
            return
        if intent.time_in_force is TimeInForce.GTX and book.crosses(intent.side, intent.price):
            raise refused(
                -5022, "Due to the order could not be executed as maker, the Post Only order will be rejected."
            )
        if intent.time_in_force is TimeInForce.FOK:
            offered = sum((e.quantity for e in book.walk(intent.side, quantity, intent.price)), ZERO)
            if offered < quantity:
                raise refused(
                    -5021, "Due to the order could not be filled immediately, the FOK order has been rejected."
                )

    def _check_risk(self, intent: OrderIntent, holding: Holding, best: Decimal | None, mark_price: Decimal) -> None:
        price = margin.assumed_price(
            intent.side, limit_price=intent.price, best_price=best or ZERO, mark_price=mark_price
        )
        orders = self.open_notional(intent.symbol)
        side_notional = orders.bids if intent.side is Side.BUY else orders.asks
        reached = abs(
            holding.position.quantity * mark_price + intent.side.sign * (side_notional + price * intent.quantity)
        )
        grows = reached > abs(holding.position.quantity) * mark_price
        if grows and reached > max_notional(holding.leverage, self.brackets[intent.symbol]):
            raise refused(-2027, "Exceeded the maximum allowable position at current leverage.")
        cost = margin.order_cost(
            holding,
            orders,
            side=intent.side,
            quantity=intent.quantity,
            price=price,
            mark_price=mark_price,
            fee_rate=self._config.taker_fee_rate,
        )
        if cost > 0 and cost > self.margin().available_balance:
            raise refused(-2019, "Margin is insufficient.")

    def _accept(self, intent: OrderIntent, quantity: Decimal, now_ms: int) -> OrderEntry:
        order = Order(
            symbol=intent.symbol,
            order_id=self._next_order_id,
            client_order_id=intent.client_order_id,
            side=intent.side,
            order_type=intent.order_type,
            status=OrderStatus.NEW,
            # Told with the symbol's own number of decimals, however the client wrote them.
            price=ZERO if intent.price is None else intent.price.quantize(self.rules[intent.symbol].tick_size),
            original_quantity=quantity.quantize(self.rules[intent.symbol].step_size),
            executed_quantity=ZERO,
            time_in_force=intent.time_in_force or TimeInForce.GTC,
            reduce_only=intent.reduce_only,
            update_time_ms=now_ms,
        )
        self._commit(OrderAccepted(time_ms=now_ms, order=order))
        return self.orders[order.order_id]

    def _expire_own_opposite(self, taker: OrderEntry, now_ms: int) -> None:
        """Self-trade prevention: own resting orders the newcomer would meet leave the book (EXPIRE_MAKER)."""
        for entry in self.open_orders(taker.order.symbol):
            if entry.order.side is taker.order.side or entry is taker:
                continue
            if taker.order.order_type is OrderType.LIMIT:
                meets = (taker.order.price - entry.order.price) * taker.order.side.sign >= 0
            else:
                best = self.books[taker.order.symbol].best_price(taker.order.side)
                meets = best is not None and (entry.order.price - best) * taker.order.side.sign <= 0
            if meets:
                self._end(entry, OrderStatus.EXPIRED_IN_MATCH, ExpiryReason.SELF_TRADE, now_ms)

    def _rest(self, entry: OrderEntry) -> None:
        self.books[entry.order.symbol].rest(
            RestingOrder(
                order_id=entry.order.order_id,
                side=entry.order.side,
                price=entry.order.price,
                remaining=entry.remaining,
            )
        )

    def _end(self, entry: OrderEntry, status: OrderStatus, reason: ExpiryReason, now_ms: int) -> None:
        self._commit(OrderEnded(time_ms=now_ms, order_id=entry.order.order_id, status=status, reason=reason))

    # Executions

    def _take(self, entry: OrderEntry, worst_price: Decimal, fee_rate: Decimal, now_ms: int) -> None:
        book = self.books[entry.order.symbol]
        for execution in book.walk(entry.order.side, entry.remaining, worst_price):
            book.take(entry.order.side, execution)
            self._execute(entry, execution.price, execution.quantity, fee_rate, maker=False, now_ms=now_ms)

    def _fill_maker(self, resting: RestingOrder, offered: Decimal, now_ms: int) -> Decimal:
        entry = self.orders[resting.order_id]
        # An earlier fill of the same quote may have ended this order.
        if entry.order.status.is_final:
            return ZERO
        if entry.order.reduce_only:
            position = self.account.position(entry.order.symbol)
            offered = min(offered, max(ZERO, -entry.order.side.sign * position.quantity))
        if offered > 0:
            self._execute(entry, resting.price, offered, self._config.maker_fee_rate, maker=True, now_ms=now_ms)
        return offered

    def _execute(
        self, entry: OrderEntry, price: Decimal, quantity: Decimal, fee_rate: Decimal, *, maker: bool, now_ms: int
    ) -> None:
        order = entry.order
        realized, commission = self.account.price_fill(order.symbol, order.side, price, quantity, fee_rate)
        self._commit(
            OrderFilled(
                time_ms=now_ms,
                fill=Fill(
                    symbol=order.symbol,
                    trade_id=self._next_trade_id,
                    order_id=order.order_id,
                    client_order_id=order.client_order_id,
                    side=order.side,
                    price=price,
                    quantity=quantity,
                    commission=commission,
                    realized_pnl=realized,
                    maker=maker,
                    trade_time_ms=now_ms,
                ),
            )
        )
        self._displace_reduce_only(order.symbol, now_ms)

    def _displace_reduce_only(self, symbol: str, now_ms: int) -> None:
        """Resting reduce-only orders end when there is nothing left for them to reduce (R-ORD 4)."""
        sign = self.account.position(symbol).sign
        for resting in list(self.books[symbol].resting.values()):
            entry = self.orders[resting.order_id]
            if entry.order.reduce_only and not entry.order.status.is_final and sign * entry.order.side.sign >= 0:
                self._end(entry, OrderStatus.EXPIRED, ExpiryReason.REDUCE_ONLY_DISPLACED, now_ms)

    # Liquidation

    def _liquidate_isolated(self, holding: Holding, now_ms: int) -> None:
        symbol = holding.position.symbol
        self._expire_orders([symbol], now_ms)
        cross_before = self.account.cross_wallet
        order_id, fee = self._close_by_force(
            holding, holding.isolated_wallet + holding.position.unrealized_pnl(self.marks[symbol]), now_ms
        )
        if order_id:
            self._charge_liquidation(symbol, order_id, fee, self.account.cross_wallet - cross_before, now_ms)

    def _liquidate_cross(self, now_ms: int) -> None:
        cross = [symbol for symbol, holding in self.account.holdings.items() if not holding.isolated]
        self._expire_orders(cross, now_ms)
        while margin.is_cross_lost(self.account, self.marks, self.brackets):
            holding = max(
                (h for h in self.account.open_holdings() if not h.isolated),
                key=lambda h: margin.maintenance(h, self.marks[h.position.symbol], self.brackets[h.position.symbol]),
            )
            symbol = holding.position.symbol
            order_id, fee = self._close_by_force(holding, margin.cross_balance(self.account, self.marks), now_ms)
            if not order_id:
                return
            self._charge_liquidation(symbol, order_id, fee, self.account.cross_wallet, now_ms)

    def _expire_orders(self, symbols: Sequence[str], now_ms: int) -> None:
        for symbol in symbols:
            for entry in self.open_orders(symbol):
                self._end(entry, OrderStatus.EXPIRED, ExpiryReason.LIQUIDATION, now_ms)

    def _close_by_force(self, holding: Holding, margin_balance: Decimal, now_ms: int) -> tuple[int, Decimal]:
        """Close at the market within the bound; the insurance fund takes the rest at the bankruptcy price.

        Returns the order's id and the fee on what was liquidated; (0, 0) if there is no quote to close against,
        so that the next mark price tries again.
        """
        position = holding.position
        symbol = position.symbol
        rules = self.rules[symbol]
        mark_price = self.marks[symbol]
        if self.books[symbol].usable_quote is None:
            return 0, ZERO
        side = Side.SELL if position.quantity > 0 else Side.BUY
        bankruptcy_price = round_to_tick(mark_price - margin_balance / position.quantity, rules.tick_size)
        entry = self._accept(
            OrderIntent(
                client_order_id=f"autoclose-{self._next_order_id}",
                symbol=symbol,
                side=side,
                order_type=OrderType.LIQUIDATION,
                quantity=abs(position.quantity),
                price=max(rules.tick_size, bankruptcy_price),
                time_in_force=TimeInForce.IOC,
                reduce_only=True,
            ),
            abs(position.quantity),
            now_ms,
        )
        self._take(entry, mark_price * (1 + side.sign * rules.market_take_bound), ZERO, now_ms)
        if entry.remaining:
            self._execute(entry, entry.order.price, entry.remaining, ZERO, maker=False, now_ms=now_ms)
        return entry.order.order_id, quantize_money(entry.cumulative_quote * rules.liquidation_fee)

    def _charge_liquidation(self, symbol: str, order_id: int, fee: Decimal, left: Decimal, now_ms: int) -> None:
        """`left` is what the liquidated margin still holds: the fee takes no more, insurance pays what is missing."""
        self._commit(
            PositionLiquidated(
                time_ms=now_ms,
                symbol=symbol,
                order_id=order_id,
                fee=min(fee, max(ZERO, left)),
                insurance=max(ZERO, -left),
            )
        )
