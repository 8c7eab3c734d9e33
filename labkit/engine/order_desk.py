"""The order desk: carries out the engine's commands at the exchange and brings every outcome back as an event.

Sends once. What is in doubt is settled by asking (see `BinanceClient.settle`), and what the stream may have lost is
found by reconciling: at every start, after every gap of the user-data stream, and every minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import msgspec

from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS, Clock
from labkit.domain.commands import Command, PlaceOrder, SettleDoubt
from labkit.domain.orders import IntentState, OrderIntent
from labkit.domain.symbol_rules import MARGIN_ASSET
from labkit.engine.books import IntentRecord
from labkit.engine.engine import Engine
from labkit.errors import (
    BreakerOpen,
    ExchangeError,
    ForbiddenHost,
    OutcomeUnknown,
    RemoteProtocolError,
    RequestRejected,
    UnknownOrder,
    WouldExceedLimit,
)
from labkit.exchange.binance_client import BinanceClient
from labkit.wire.rest_account import Income
from labkit.wire.user_data import AccountUpdate, ListenKeyExpired, MarginCall, OrderTradeUpdate, UserEvent

LOOK_BACK_MS = 5 * MINUTE_MS
"""How far before the last known fill a reconciling look begins."""

LOOKS = 3
LOOK_AGAIN_MS = 2_000
GRACE_MS = 5_000
"""So long after an execution the exchange's own account may still be told as it was before it."""

INCOME_PAGE = 1_000

REFUSED_BY_OURSELVES = 0
"""The code of an order that never left because breaker, limits or host list refused it."""

# Changes of the wallet that have their own events: fills carry their PnL and fee.
BOOKED_ELSEWHERE = frozenset({"ORDER", "FUNDING_FEE"})
BOOKED_WITH_FILLS = frozenset({"REALIZED_PNL", "COMMISSION"})
"""The same as the exchange's list of cash flows calls them."""


class OrderDesk:
    """Between the engine and one exchange."""

    def __init__(self, engine: Engine, client: BinanceClient, clock: Clock, submit: Callable[[ev.Event], None]) -> None:
        self._engine = engine
        self._client = client
        self._clock = clock
        self._submit = submit
        self._tasks: set[asyncio.Task[None]] = set()
        self._reconciling = asyncio.Lock()
        last_known_ms = max([engine.last_fill_ms, *engine.last_funding_ms.values()])
        self._income_from_ms = last_known_ms - LOOK_BACK_MS
        """Cash flows from here on have not all been read; exchange time. Fills that come later must not move it."""

    def carry_out(self, command: Command) -> None:
        """Start carrying out one command; its outcome will come as an event."""
        match command:
            case PlaceOrder(intent=intent):
                self._start(self._place(intent))
            case SettleDoubt(intent=intent, sent_at_ms=sent_at_ms):
                self._start(self._settle(intent, sent_at_ms))

    async def quiet(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_user_event(self, event: UserEvent) -> None:
        """One event of the user-data stream."""
        match event:
            case OrderTradeUpdate(order=order, fill=fill):
                self._submit(ev.OrderChanged(time_ms=self._clock.now_ms(), order=order, fill=fill))
            case AccountUpdate(reason="FUNDING_FEE"):
                change = event.balances["USDT"].change
                self._submit(
                    ev.FundingPaid(
                        time_ms=self._clock.now_ms(),
                        symbol=event.symbol,
                        funding_time_ms=event.transaction_time_ms,
                        amount=change,
                    )
                )
            case AccountUpdate(reason=reason, balances=balances) if reason not in BOOKED_ELSEWHERE:
                # The list of cash flows tells it under a number that makes it happen once, told or not.
                if any(balance.change for balance in balances.values()):
                    self._start(self._read_income())
            case MarginCall() | ListenKeyExpired():
                self._submit(
                    ev.FeedChanged(
                        time_ms=self._clock.now_ms(), what="user stream", healthy=False, cause=type(event).__name__
                    )
                )
            case _:
                pass

    async def reconcile(self) -> None:
        """Ask the exchange about everything that is not settled, and hold its account against ours."""
        async with self._reconciling:
            for record in self._engine.open_intents():
                if record.state is IntentState.ACKED:
                    await self._ask(record)
            await self._read_income()
            await self._hold_accounts_together()

    async def _hold_accounts_together(self) -> None:
        """Submit a look at the exchange's account taken while nothing moved and nothing has moved just now.

        An answer may be newer than the events still on their way to us, so a difference is only told when it stands.
        """
        settled_ms = self._engine.last_fill_ms - self._client.time_offset_ms + GRACE_MS
        if self._clock.now_ms() < settled_ms:
            await self._clock.sleep_until(settled_ms)
        for attempt in range(LOOKS):
            revision = self._engine.revision
            account = await self._client.account()
            positions = {p.symbol: p.quantity for p in account.positions if p.quantity}
            others = self._tasks - {asyncio.current_task()}
            if others or self._engine.open_intents() or self._engine.revision != revision:
                return
            ours = {p.symbol: p.quantity for p in self._engine.positions.values() if p.is_open}
            agrees = ours == positions and self._engine.account.wallet_balance == account.wallet_balance
            if attempt == 1 and ours != positions:
                await self._find_foreign_fills({*ours, *positions})
            elif agrees or attempt == LOOKS - 1:
                self._submit(
                    ev.AccountObserved(
                        time_ms=self._clock.now_ms(), wallet_balance=account.wallet_balance, positions=positions
                    )
                )
                return
            await self._clock.sleep_until(self._clock.now_ms() + LOOK_AGAIN_MS)

    def _start(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # What was left undone is found by the next reconciliation; that it failed is told now.
            self._submit(
                ev.FeedChanged(
                    time_ms=self._clock.now_ms(),
                    what="order desk",
                    healthy=False,
                    cause=f"{type(error).__name__}: {error}",
                )
            )

    async def _place(self, intent: OrderIntent) -> None:
        try:
            order = await self._client.place_order(intent)
        except OutcomeUnknown as error:
            self._doubted(intent, str(error))
        except ExchangeError as error:
            self._refused(intent, error.code, error.text)
            if isinstance(error, RequestRejected) and intent.reduce_only:
                # Nothing to reduce? Then the position changed without our knowing: look.
                await self.reconcile()
        except (BreakerOpen, WouldExceedLimit, ForbiddenHost) as error:
            self._refused(intent, REFUSED_BY_OURSELVES, str(error))
        except Exception as error:
            # Nobody foresaw this, so nobody knows what was sent: settled like every doubt, and told by `_ended`.
            self._doubted(intent, f"{type(error).__name__}: {error}")
            raise
        else:
            self._submit(ev.OrderChanged(time_ms=self._clock.now_ms(), order=order))

    def _doubted(self, intent: OrderIntent, cause: str) -> None:
        self._submit(ev.OrderInDoubt(time_ms=self._clock.now_ms(), client_order_id=intent.client_order_id, cause=cause))

    def _refused(self, intent: OrderIntent, code: int, message: str) -> None:
        self._submit(
            ev.OrderRefused(
                time_ms=self._clock.now_ms(), client_order_id=intent.client_order_id, code=code, message=message
            )
        )

    async def _settle(self, intent: OrderIntent, sent_at_ms: int) -> None:
        while True:
            try:
                order = await self._client.settle(intent, sent_at_ms)
                break
            except (ExchangeError, BreakerOpen, WouldExceedLimit, RemoteProtocolError):
                # The exchange cannot be asked just now. The doubt stays, so does the question.
                await self._clock.sleep_until(self._clock.now_ms() + 1_000)
        if order is None:
            self._submit(
                ev.OrderNeverPlaced(
                    time_ms=self._clock.now_ms(),
                    client_order_id=intent.client_order_id,
                    evidence="asked twice after the fence: no order and no trade of this id",
                )
            )
            return
        self._submit(ev.OrderChanged(time_ms=self._clock.now_ms(), order=order))
        await self._fetch_fills(self._engine.intents[intent.client_order_id])

    async def _ask(self, record: IntentRecord) -> None:
        intent = record.intent
        try:
            order = await self._client.query_order(intent.symbol, intent.client_order_id)
        except UnknownOrder:
            return
        self._submit(ev.OrderChanged(time_ms=self._clock.now_ms(), order=order))
        if order.executed_quantity > record.booked_quantity:
            await self._fetch_fills(record)

    async def _fetch_fills(self, record: IntentRecord) -> None:
        intent = record.intent
        order = await self._client.query_order(intent.symbol, intent.client_order_id)
        for fill in await self._client.user_trades(intent.symbol, start_ms=record.created_ms - LOOK_BACK_MS):
            if fill.order_id == order.order_id:
                # The list of trades does not name the client order id.
                named = msgspec.structs.replace(fill, client_order_id=intent.client_order_id)
                self._submit(ev.OrderChanged(time_ms=self._clock.now_ms(), order=order, fill=named))

    async def _find_foreign_fills(self, symbols: set[str]) -> None:
        """Book executions the stream never told us of: a liquidation, or a person in the exchange's own app."""
        for symbol in sorted(symbols):
            since = self._engine.last_fill_ms - LOOK_BACK_MS
            for fill in await self._client.user_trades(symbol, start_ms=since):
                if self._engine.knows_fill(symbol, fill.trade_id):
                    continue
                order = await self._client.query_order_by_id(symbol, fill.order_id)
                named = msgspec.structs.replace(fill, client_order_id=order.client_order_id)
                self._submit(ev.OrderChanged(time_ms=self._clock.now_ms(), order=order, fill=named))

    async def _read_income(self) -> None:
        """Book every cash flow the stream may have lost: funding, and whatever else moved the wallet without a fill."""
        read_ms = self._client.exchange_time_ms()
        # What came before the opening balance is in it.
        opened_ms = self._engine.opened_ms + self._client.time_offset_ms
        start_ms = max(self._income_from_ms, opened_ms + 1)
        while True:
            rows = await self._client.income(start_ms=start_ms, limit=INCOME_PAGE)
            for row in rows:
                self._book_income(row)
            if len(rows) < INCOME_PAGE:
                break
            # Rows of that very moment may be on the next page; what is met twice is booked once.
            start_ms = max(rows[-1].time_ms, start_ms + 1)
        self._income_from_ms = read_ms - LOOK_BACK_MS

    def _book_income(self, row: Income) -> None:
        if row.income_type == "FUNDING_FEE":
            self._submit(
                ev.FundingPaid(
                    time_ms=self._clock.now_ms(),
                    symbol=row.symbol,
                    funding_time_ms=row.time_ms,
                    amount=row.amount,
                )
            )
        elif row.income_type not in BOOKED_WITH_FILLS and row.asset == MARGIN_ASSET:
            self._submit(
                ev.WalletAdjusted(
                    time_ms=self._clock.now_ms(),
                    amount=row.amount,
                    cause=row.income_type,
                    # Unique within its kind.
                    key=f"{row.income_type}:{row.transaction_id}",
                )
            )
