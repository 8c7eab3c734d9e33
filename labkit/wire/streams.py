"""Market streams and their control messages: names, frames to facts, facts to frames (protocol §1.3, §2, §3).

Prices in quote asset, quantities in base asset, times in UTC ms. The client decodes, the paper exchange encodes, and
both meet in the bytes. Frame structs here are the only place where the exchange's one-letter keys live; unknown keys
are ignored, unknown meaning is refused with `RemoteProtocolError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from labkit.domain.market_events import Bar, DepthDiff, MarkPrice, PartialDepth, Quote, Trade
from labkit.errors import MalformedControl, RemoteProtocolError
from labkit.wire.numbers import Int64, NumberText, format_decimal
from labkit.wire.rest_market import Ticker24h
from labkit.wire.shapes import UNREADABLE, decode_json, encode_json

# ------------------------------------------------------------------------------------------------------ stream names

_PUBLIC_KINDS: Final = ("bookTicker", "depth", "rpiDepth", "trade")


def route_of(stream: str) -> str:
    """The route that carries `stream`: `public` (order-book speed), `market`, or `private` (a listen key).

    On any other route the exchange acknowledges the subscription and then stays silent.
    """
    symbol, at, kind = stream.partition("@")
    if not at:
        if symbol == "!bookTicker":
            return "public"
        return "market" if symbol.startswith("!") or symbol == "tradingSession" else "private"
    kind = kind.partition("@")[0]
    return "public" if kind.rstrip("0123456789") in _PUBLIC_KINDS else "market"


def book_ticker_stream(symbol: str) -> str:
    return f"{symbol.lower()}@bookTicker"


def mark_price_stream(symbol: str) -> str:
    """Mark price every second."""
    return f"{symbol.lower()}@markPrice@1s"


def agg_trade_stream(symbol: str) -> str:
    return f"{symbol.lower()}@aggTrade"


def trade_stream(symbol: str) -> str:
    return f"{symbol.lower()}@trade"


def kline_stream(symbol: str, interval: str) -> str:
    return f"{symbol.lower()}@kline_{interval}"


def depth_stream(symbol: str, speed: str = "") -> str:
    """The diff stream of the order book; `speed` is `100ms`, `500ms` or empty for the default of 250 ms."""
    return f"{symbol.lower()}@depth@{speed}" if speed else f"{symbol.lower()}@depth"


def mini_ticker_stream(symbol: str) -> str:
    return f"{symbol.lower()}@miniTicker"


def ticker_stream(symbol: str) -> str:
    return f"{symbol.lower()}@ticker"


# ------------------------------------------------------------------------------------------------- facts of this room


class Ticker(Struct, frozen=True, gc=False):
    """The last 24 hours of one symbol, rolling: what both ticker streams have in common."""

    symbol: str
    last_price: Decimal
    open_price: Decimal
    high_price: Decimal
    low_price: Decimal
    volume: Decimal
    quote_volume: Decimal
    event_time_ms: int
    received_ns: int = 0


JsonScalar = str | int | float | bool | None
ControlResult = bool | tuple[str, ...] | None


class ServerShutdown(Struct, frozen=True):
    """The exchange announces that it will soon end the connection this came over."""

    event_time_ms: int = 0


class ControlRequest(Struct, frozen=True):
    """A message a client sends on a stream connection. `id` is any JSON scalar and is echoed unchanged."""

    method: str
    params: tuple[str | bool, ...] = ()
    id: JsonScalar = None


class ControlReply(Struct, frozen=True):
    """The exchange's answer to a `ControlRequest`; `error_code` is None where it succeeded."""

    id: JsonScalar
    result: ControlResult = None
    error_code: int | None = None
    error_message: str = ""


Fact = Quote | MarkPrice | Trade | Bar | DepthDiff | PartialDepth | Ticker


# --------------------------------------------------------------------------------------------------------- the frames
# Each frame struct lists what is read. Its `…Sent` child adds what labkit's exchange writes besides, in one go with
# the rest, because other clients look for it: T transaction time, ps pair, st symbol type (1 is USDⓈ-M).


class _BookTicker(Struct, frozen=True, tag_field="e", tag="bookTicker"):
    update_id: Int64 = field(name="u")
    symbol: str = field(name="s")
    bid_price: NumberText = field(name="b")
    bid_quantity: NumberText = field(name="B")
    ask_price: NumberText = field(name="a")
    ask_quantity: NumberText = field(name="A")
    event_time_ms: Int64 = field(name="E")

    def fact(self, received_ns: int) -> Quote:
        return Quote(
            self.symbol,
            Decimal(self.bid_price),
            Decimal(self.bid_quantity),
            Decimal(self.ask_price),
            Decimal(self.ask_quantity),
            self.update_id,
            self.event_time_ms,
            received_ns,
        )


class _BookTickerSent(_BookTicker, frozen=True, tag="bookTicker"):
    transaction_time_ms: Int64 = field(name="T")
    pair: str = field(name="ps")
    symbol_type: Int64 = field(name="st", default=1)


class _MarkPriceUpdate(Struct, frozen=True, tag_field="e", tag="markPriceUpdate"):
    event_time_ms: Int64 = field(name="E")
    symbol: str = field(name="s")
    mark_price: NumberText = field(name="p")
    index_price: NumberText = field(name="i")
    funding_rate: NumberText = field(name="r")
    next_funding_time_ms: Int64 = field(name="T")

    def fact(self, received_ns: int) -> MarkPrice:
        return MarkPrice(
            self.symbol,
            Decimal(self.mark_price),
            Decimal(self.index_price),
            Decimal(self.funding_rate),
            self.next_funding_time_ms,
            self.event_time_ms,
            received_ns,
        )


class _MarkPriceUpdateSent(_MarkPriceUpdate, frozen=True, tag="markPriceUpdate"):
    average_mark_price: NumberText = field(name="ap")
    estimated_settle_price: NumberText = field(name="P")
    symbol_type: Int64 = field(name="st", default=1)


class _AggTrade(Struct, frozen=True, tag_field="e", tag="aggTrade"):
    event_time_ms: Int64 = field(name="E")
    symbol: str = field(name="s")
    trade_id: Int64 = field(name="a")
    price: NumberText = field(name="p")
    quantity: NumberText = field(name="q")
    trade_time_ms: Int64 = field(name="T")
    buyer_is_maker: bool = field(name="m")

    def fact(self, received_ns: int) -> Trade:
        return _trade_of(self, received_ns)


class _AggTradeSent(_AggTrade, frozen=True, tag="aggTrade"):
    quantity_without_rpi: NumberText = field(name="nq")
    first_trade_id: Int64 = field(name="f")
    last_trade_id: Int64 = field(name="l")
    symbol_type: Int64 = field(name="st", default=1)


class _Trade(Struct, frozen=True, tag_field="e", tag="trade"):
    event_time_ms: Int64 = field(name="E")
    trade_time_ms: Int64 = field(name="T")
    symbol: str = field(name="s")
    trade_id: Int64 = field(name="t")
    price: NumberText = field(name="p")
    quantity: NumberText = field(name="q")
    buyer_is_maker: bool = field(name="m")

    def fact(self, received_ns: int) -> Trade:
        return _trade_of(self, received_ns)


class _TradeSent(_Trade, frozen=True, tag="trade"):
    kind: str = field(name="X", default="MARKET")
    symbol_type: Int64 = field(name="st", default=1)


def _trade_of(frame: _AggTrade | _Trade, received_ns: int) -> Trade:
    return Trade(
        frame.symbol,
        frame.trade_id,
        Decimal(frame.price),
        Decimal(frame.quantity),
        frame.buyer_is_maker,
        frame.trade_time_ms,
        frame.event_time_ms,
        received_ns,
    )


class _Candle(Struct, frozen=True):
    open_time_ms: Int64 = field(name="t")
    close_time_ms: Int64 = field(name="T")
    symbol: str = field(name="s")
    interval: str = field(name="i")
    open: NumberText = field(name="o")
    close: NumberText = field(name="c")
    high: NumberText = field(name="h")
    low: NumberText = field(name="l")
    volume: NumberText = field(name="v")
    trade_count: Int64 = field(name="n")
    closed: bool = field(name="x")
    quote_volume: NumberText = field(name="q")
    taker_buy_volume: NumberText = field(name="V")
    taker_buy_quote_volume: NumberText = field(name="Q")


class _CandleSent(_Candle, frozen=True):
    # A Bar does not remember which trades it was made of.
    first_trade_id: Int64 = field(name="f", default=-1)
    last_trade_id: Int64 = field(name="L", default=-1)
    ignore: str = field(name="B", default="0")


class _Kline(Struct, frozen=True, tag_field="e", tag="kline"):
    event_time_ms: Int64 = field(name="E")
    symbol: str = field(name="s")
    candle: _Candle = field(name="k")

    def fact(self, received_ns: int) -> Bar:
        candle = self.candle
        if candle.symbol != self.symbol:
            raise RemoteProtocolError(f"kline of {self.symbol} holds a candle of {candle.symbol}")
        return Bar(
            candle.symbol,
            candle.interval,
            candle.open_time_ms,
            candle.close_time_ms,
            Decimal(candle.open),
            Decimal(candle.high),
            Decimal(candle.low),
            Decimal(candle.close),
            Decimal(candle.volume),
            Decimal(candle.quote_volume),
            candle.trade_count,
            Decimal(candle.taker_buy_volume),
            Decimal(candle.taker_buy_quote_volume),
            candle.closed,
        )


class _DepthUpdate(Struct, frozen=True, tag_field="e", tag="depthUpdate"):
    event_time_ms: Int64 = field(name="E")
    symbol: str = field(name="s")
    first_update_id: Int64 = field(name="U")
    final_update_id: Int64 = field(name="u")
    previous_final_update_id: Int64 = field(name="pu")
    bids: tuple[tuple[NumberText, NumberText], ...] = field(name="b")
    asks: tuple[tuple[NumberText, NumberText], ...] = field(name="a")

    def fact(self, received_ns: int) -> DepthDiff:
        return DepthDiff(
            self.symbol,
            self.first_update_id,
            self.final_update_id,
            self.previous_final_update_id,
            tuple([(Decimal(price), Decimal(quantity)) for price, quantity in self.bids]),
            tuple([(Decimal(price), Decimal(quantity)) for price, quantity in self.asks]),
            self.event_time_ms,
            received_ns,
        )

    def best_levels(self, received_ns: int) -> PartialDepth:
        whole = self.fact(received_ns)
        return PartialDepth(
            whole.symbol, whole.final_update_id, whole.bids, whole.asks, whole.event_time_ms, received_ns
        )


class _DepthUpdateSent(_DepthUpdate, frozen=True, tag="depthUpdate"):
    transaction_time_ms: Int64 = field(name="T")
    pair: str = field(name="ps")
    symbol_type: Int64 = field(name="st", default=1)


class _MiniTicker(Struct, frozen=True, tag_field="e", tag="24hrMiniTicker"):
    event_time_ms: Int64 = field(name="E")
    symbol: str = field(name="s")
    last_price: NumberText = field(name="c")
    open_price: NumberText = field(name="o")
    high_price: NumberText = field(name="h")
    low_price: NumberText = field(name="l")
    volume: NumberText = field(name="v")
    quote_volume: NumberText = field(name="q")

    def fact(self, received_ns: int) -> Ticker:
        return Ticker(
            self.symbol,
            Decimal(self.last_price),
            Decimal(self.open_price),
            Decimal(self.high_price),
            Decimal(self.low_price),
            Decimal(self.volume),
            Decimal(self.quote_volume),
            self.event_time_ms,
            received_ns,
        )


class _MiniTickerSent(_MiniTicker, frozen=True, tag="24hrMiniTicker"):
    pair: str = field(name="ps")
    symbol_type: Int64 = field(name="st", default=1)


class _FullTicker(_MiniTicker, frozen=True, tag="24hrTicker"):
    pass


class _FullTickerSent(_FullTicker, frozen=True, tag="24hrTicker"):
    pair: str = field(name="ps")
    price_change: NumberText = field(name="p")
    price_change_percent: NumberText = field(name="P")
    weighted_average_price: NumberText = field(name="w")
    last_quantity: NumberText = field(name="Q")
    open_time_ms: Int64 = field(name="O")
    close_time_ms: Int64 = field(name="C")
    first_trade_id: Int64 = field(name="F")
    last_trade_id: Int64 = field(name="L")
    trade_count: Int64 = field(name="n")
    symbol_type: Int64 = field(name="st", default=1)


_Frame = _BookTicker | _MarkPriceUpdate | _AggTrade | _Trade | _Kline | _DepthUpdate | _MiniTicker | _FullTicker


class _Combined(Struct, frozen=True):
    stream: str
    data: _Frame


class _Fault(Struct, frozen=True):
    code: Int64
    message: str = field(name="msg")


class _Announcement(Struct, frozen=True):
    event: str = field(name="e", default="")
    event_time_ms: Int64 = field(name="E", default=0)


class _Anything(Struct, frozen=True):
    """Just enough of a frame to tell what it is."""

    stream: str | UnsetType = UNSET
    event: str | UnsetType = field(name="e", default=UNSET)
    announced: _Announcement | UnsetType = field(name="event", default=UNSET)
    id: JsonScalar | UnsetType = UNSET
    result: ControlResult | UnsetType = UNSET
    error: _Fault | UnsetType = UNSET
    code: Int64 | UnsetType = UNSET
    message: str | UnsetType = field(name="msg", default=UNSET)


_combined = msgspec.json.Decoder(_Combined)
_bare: msgspec.json.Decoder[_Frame] = msgspec.json.Decoder(_Frame)
_anything = msgspec.json.Decoder(_Anything)
_announcement = msgspec.json.Decoder(_Announcement)
_SHUTDOWN = "serverShutdown"


def decode_frame(frame: bytes, received_ns: int) -> Fact | ControlReply | ServerShutdown:
    """The one fact in a frame of a market stream, the reply to a control message, or the announcement of an end.

    Reads the combined form `{"stream", "data"}` and the bare event; in the combined form the stream must be one that
    carries this event for this symbol. Raises `RemoteProtocolError` for everything else. `received_ns` is our market
    time at receipt.
    """
    if not frame.isascii():
        _check_utf_8(frame)
    # The exchange writes these keys first, so nearly every frame is decoded in one pass.
    if frame.startswith(b'{"stream":'):
        return _decode_combined(frame, received_ns)
    if frame.startswith(b'{"e":') and not frame.startswith(b'{"e":"serverShutdown"'):
        return _decode_bare(frame, received_ns)
    outline = decode_json(_anything, frame)
    if outline.stream is not UNSET:
        return _decode_combined(frame, received_ns)
    if outline.event == _SHUTDOWN:
        return ServerShutdown(decode_json(_announcement, frame).event_time_ms)
    if outline.announced is not UNSET and outline.announced.event == _SHUTDOWN:
        return ServerShutdown(outline.announced.event_time_ms)
    if outline.event is not UNSET:
        return _decode_bare(frame, received_ns)
    return _control_reply(outline)


def _check_utf_8(frame: bytes) -> None:
    """The decoder does not look into what it skips."""
    try:
        frame.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"not UTF-8: {error.reason} at byte {error.start}") from error


_QUOTE_KEYS: Final = tuple(f'"{key}"'.encode() for key in ("e", "u", "s", "b", "B", "a", "A", "E"))


def _check_single_keys(frame: bytes) -> None:
    """A quote that says a thing twice says nothing: the decoder would believe the last. An escape could hide a key."""
    if b"\\" in frame or frame.count(b'"stream"') > 1 or any(frame.count(key) != 1 for key in _QUOTE_KEYS):
        raise RemoteProtocolError("a quote with a key twice, or with escapes")


def _decode_bare(frame: bytes, received_ns: int) -> Fact:
    data = decode_json(_bare, frame)
    if isinstance(data, _BookTicker):
        _check_single_keys(frame)
    return data.fact(received_ns)


def _decode_combined(frame: bytes, received_ns: int) -> Fact:
    combined = decode_json(_combined, frame)
    data = combined.data
    interval = data.candle.interval if isinstance(data, _Kline) else ""
    if complaint := _disagreement(combined.stream, type(data), data.symbol, interval):
        raise RemoteProtocolError(complaint)
    if isinstance(data, _DepthUpdate) and combined.stream.partition("@")[2] in _PARTIAL_DEPTH:
        return data.best_levels(received_ns)
    if isinstance(data, _BookTicker):
        _check_single_keys(frame)
    return data.fact(received_ns)


_PARTIAL_DEPTH = frozenset(
    f"depth{levels}{pace}" for levels in (5, 10, 20) for pace in ("", "@0ms", "@100ms", "@250ms", "@500ms")
)
"""The same event is a whole book here, not a change of one."""

_KINDS_OF: dict[type[Struct], tuple[str, ...]] = {
    _BookTicker: ("bookTicker",),
    _MarkPriceUpdate: ("markPrice", "markPrice@1s"),
    _AggTrade: ("aggTrade",),
    _Trade: ("trade",),
    _DepthUpdate: ("depth", "depth@0ms", "depth@100ms", "depth@250ms", "depth@500ms", *_PARTIAL_DEPTH),
    _MiniTicker: ("miniTicker",),
    _FullTicker: ("ticker",),
}


@lru_cache(maxsize=4096)
def _disagreement(stream: str, frame_type: type[Struct], symbol: str, interval: str) -> str:
    """Why `stream` cannot have carried this event, or an empty string."""
    name, _, kind = stream.partition("@")
    if name != symbol.lower() and stream != "!bookTicker":
        return f"stream {stream[:80]!r} carried an event of {symbol[:40]!r}"
    kinds = (f"kline_{interval}",) if frame_type is _Kline else _KINDS_OF[frame_type]
    if kind not in kinds and not (stream == "!bookTicker" and frame_type is _BookTicker):
        return f"stream {stream[:80]!r} carried a {frame_type.__struct_config__.tag} event"
    return ""


def _control_reply(outline: _Anything) -> ControlReply:
    request_id = None if outline.id is UNSET else outline.id
    if outline.error is not UNSET:
        return ControlReply(request_id, None, outline.error.code, outline.error.message)
    if outline.code is not UNSET and outline.message is not UNSET:
        return ControlReply(request_id, None, outline.code, outline.message)
    if outline.result is not UNSET and outline.id is not UNSET:
        return ControlReply(request_id, outline.result)
    raise RemoteProtocolError("neither an event of a market stream nor a control reply")


# ------------------------------------------------------------------------------------------------- facts to frames


def encode_book_ticker(quote: Quote) -> bytes:
    return encode_json(
        _BookTickerSent(
            update_id=quote.update_id,
            symbol=quote.symbol,
            bid_price=format_decimal(quote.bid_price),
            bid_quantity=format_decimal(quote.bid_quantity),
            ask_price=format_decimal(quote.ask_price),
            ask_quantity=format_decimal(quote.ask_quantity),
            event_time_ms=quote.event_time_ms,
            transaction_time_ms=quote.event_time_ms,
            pair=quote.symbol,
        )
    )


def encode_mark_price(mark: MarkPrice) -> bytes:
    mark_price = format_decimal(mark.mark_price)
    index_price = format_decimal(mark.index_price)
    return encode_json(
        _MarkPriceUpdateSent(
            event_time_ms=mark.event_time_ms,
            symbol=mark.symbol,
            mark_price=mark_price,
            index_price=index_price,
            funding_rate=format_decimal(mark.funding_rate),
            next_funding_time_ms=mark.next_funding_time_ms,
            average_mark_price=mark_price,
            estimated_settle_price=index_price,
        )
    )


def encode_agg_trade(trade: Trade) -> bytes:
    quantity = format_decimal(trade.quantity)
    return encode_json(
        _AggTradeSent(
            event_time_ms=trade.event_time_ms,
            symbol=trade.symbol,
            trade_id=trade.trade_id,
            price=format_decimal(trade.price),
            quantity=quantity,
            trade_time_ms=trade.trade_time_ms,
            buyer_is_maker=trade.buyer_is_maker,
            quantity_without_rpi=quantity,
            first_trade_id=trade.trade_id,
            last_trade_id=trade.trade_id,
        )
    )


def encode_trade(trade: Trade) -> bytes:
    return encode_json(
        _TradeSent(
            event_time_ms=trade.event_time_ms,
            trade_time_ms=trade.trade_time_ms,
            symbol=trade.symbol,
            trade_id=trade.trade_id,
            price=format_decimal(trade.price),
            quantity=format_decimal(trade.quantity),
            buyer_is_maker=trade.buyer_is_maker,
        )
    )


def encode_kline(bar: Bar, event_time_ms: int) -> bytes:
    return encode_json(
        _Kline(
            event_time_ms=event_time_ms,
            symbol=bar.symbol,
            candle=_CandleSent(
                open_time_ms=bar.open_time_ms,
                close_time_ms=bar.close_time_ms,
                symbol=bar.symbol,
                interval=bar.interval,
                open=format_decimal(bar.open),
                close=format_decimal(bar.close),
                high=format_decimal(bar.high),
                low=format_decimal(bar.low),
                volume=format_decimal(bar.volume),
                trade_count=bar.trade_count,
                closed=bar.closed,
                quote_volume=format_decimal(bar.quote_volume),
                taker_buy_volume=format_decimal(bar.taker_buy_volume),
                taker_buy_quote_volume=format_decimal(bar.taker_buy_quote_volume),
            ),
        )
    )


def encode_depth(diff: DepthDiff) -> bytes:
    return encode_json(
        _DepthUpdateSent(
            event_time_ms=diff.event_time_ms,
            symbol=diff.symbol,
            first_update_id=diff.first_update_id,
            final_update_id=diff.final_update_id,
            previous_final_update_id=diff.previous_final_update_id,
            bids=tuple((format_decimal(price), format_decimal(quantity)) for price, quantity in diff.bids),
            asks=tuple((format_decimal(price), format_decimal(quantity)) for price, quantity in diff.asks),
            transaction_time_ms=diff.event_time_ms,
            pair=diff.symbol,
        )
    )


def encode_mini_ticker(ticker: Ticker) -> bytes:
    return encode_json(
        _MiniTickerSent(
            event_time_ms=ticker.event_time_ms,
            symbol=ticker.symbol,
            last_price=format_decimal(ticker.last_price),
            open_price=format_decimal(ticker.open_price),
            high_price=format_decimal(ticker.high_price),
            low_price=format_decimal(ticker.low_price),
            volume=format_decimal(ticker.volume),
            quote_volume=format_decimal(ticker.quote_volume),
            pair=ticker.symbol,
        )
    )


def encode_ticker(ticker: Ticker24h, event_time_ms: int) -> bytes:
    """The full ticker event; `decode_frame` gives back the part of it that `Ticker` holds."""
    return encode_json(
        _FullTickerSent(
            event_time_ms=event_time_ms,
            symbol=ticker.symbol,
            last_price=format_decimal(ticker.last_price),
            open_price=format_decimal(ticker.open_price),
            high_price=format_decimal(ticker.high_price),
            low_price=format_decimal(ticker.low_price),
            volume=format_decimal(ticker.volume),
            quote_volume=format_decimal(ticker.quote_volume),
            pair=ticker.symbol,
            price_change=format_decimal(ticker.price_change),
            price_change_percent=format_decimal(ticker.price_change_percent),
            weighted_average_price=format_decimal(ticker.weighted_average_price),
            last_quantity=format_decimal(ticker.last_quantity),
            open_time_ms=ticker.open_time_ms,
            close_time_ms=ticker.close_time_ms,
            first_trade_id=ticker.first_trade_id,
            last_trade_id=ticker.last_trade_id,
            trade_count=ticker.trade_count,
        )
    )


def wrap(stream: str, data: bytes) -> bytes:
    """The combined form of an event; `data` goes in byte for byte."""
    return b'{"stream":' + encode_json(stream) + b',"data":' + data + b"}"


# ------------------------------------------------------------------------------------------------- control messages

CONTROL_METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class _ControlFrame(Struct, frozen=True):
    method: str
    params: tuple[str | bool, ...] = ()
    id: JsonScalar = None


_builtins = msgspec.json.Decoder()


def encode_subscribe(streams: Sequence[str], id: JsonScalar) -> str:
    return encode_json({"method": "SUBSCRIBE", "params": list(streams), "id": id}).decode()


def encode_unsubscribe(streams: Sequence[str], id: JsonScalar) -> str:
    return encode_json({"method": "UNSUBSCRIBE", "params": list(streams), "id": id}).decode()


def encode_list_subscriptions(id: JsonScalar) -> str:
    return encode_json({"method": "LIST_SUBSCRIPTIONS", "id": id}).decode()


def decode_control(text: str | bytes) -> ControlRequest:
    """A client's control message. Raises `MalformedControl` with the code and text the exchange answers."""
    try:
        message = _builtins.decode(text)
    except UNREADABLE as exc:
        raise MalformedControl("Invalid JSON: the message cannot be read", code=3) from exc
    request_id = message.get("id") if isinstance(message, dict) else None
    if isinstance(request_id, (dict, list)):
        raise MalformedControl("Invalid request: id must be a number, a string or null", code=2)
    try:
        frame = msgspec.convert(message, _ControlFrame)
    except UNREADABLE as exc:
        raise MalformedControl(f"Invalid request: {exc}", code=2, request_id=request_id) from exc
    if frame.method not in CONTROL_METHODS:
        raise MalformedControl(
            f"Invalid request: unknown method, expected one of {', '.join(CONTROL_METHODS)}",
            code=2,
            request_id=request_id,
        )
    return ControlRequest(frame.method, frame.params, frame.id)


def encode_control_reply(result: ControlResult, id: JsonScalar) -> bytes:
    return encode_json({"result": result, "id": id})


def encode_control_error(code: int, message: str, id: JsonScalar) -> bytes:
    return encode_json({"error": {"code": code, "msg": message}, "id": id})
