"""Frames of the market streams: golden ones of our own making, round trips, and everything that is not a frame."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labkit.domain.market_events import Bar, DepthDiff, MarkPrice, PartialDepth, Quote, Trade
from labkit.errors import MalformedControl, RemoteProtocolError
from labkit.wire import streams
from labkit.wire.rest_market import Ticker24h
from labkit.wire.streams import ControlReply, ControlRequest, ServerShutdown, Ticker, decode_frame, wrap

RECEIVED_NS = 1_795_375_275_570_000_000

QUOTE = Quote(
    "BTCUSDT",
    Decimal("91234.50"),
    Decimal("4.213"),
    Decimal("91234.60"),
    Decimal("1.870"),
    9112345678901,
    1795375275568,
)
MARK = MarkPrice(
    "BTCUSDT",
    Decimal("91231.40000000"),
    Decimal("91236.02186957"),
    Decimal("-0.00010000"),
    1795392000000,
    1795375276000,
)
AGG_TRADE = Trade("BTCUSDT", 3141592653, Decimal("91234.60"), Decimal("0.250"), False, 1795375275488, 1795375275570)
TRADE = Trade("BTCUSDT", 6900000004, Decimal("91234.60"), Decimal("0.020"), True, 1795375275488, 1795375275570)
BAR = Bar(
    "BTCUSDT",
    "1m",
    1795375260000,
    1795375319999,
    Decimal("91210.00"),
    Decimal("91240.00"),
    Decimal("91205.10"),
    Decimal("91234.60"),
    Decimal("152.331"),
    Decimal("13896012.44120"),
    1004,
    Decimal("80.120"),
    Decimal("7309000.10000"),
    closed=False,
)
DIFF = DepthDiff(
    "BTCUSDT",
    9112345678850,
    9112345678901,
    9112345678849,
    ((Decimal("91234.50"), Decimal("4.213")), (Decimal("91230.00"), Decimal("0.000"))),
    ((Decimal("91234.60"), Decimal("1.870")),),
    1795375275600,
)
TICKER = Ticker(
    "BTCUSDT",
    Decimal("91234.60"),
    Decimal("90001.00"),
    Decimal("92000.00"),
    Decimal("89750.10"),
    Decimal("142330.221"),
    Decimal("12934455667.12"),
    1795375276010,
)

GOLDEN = {
    "best bid and ask": (
        "btcusdt@bookTicker",
        """{"e":"bookTicker","u":9112345678901,"s":"BTCUSDT","ps":"BTCUSDT","b":"91234.50","B":"4.213",
        "a":"91234.60","A":"1.870","T":1795375275560,"E":1795375275568,"st":1}""",
        QUOTE,
    ),
    "best bid and ask as written before 2026": (
        "btcusdt@bookTicker",
        """{"e":"bookTicker","u":9112345678901,"s":"BTCUSDT","b":"91234.50","B":"4.213","a":"91234.60","A":"1.870",
        "T":1795375275560,"E":1795375275568}""",
        QUOTE,
    ),
    "one of all best bids and asks": (
        "!bookTicker",
        """{"e":"bookTicker","u":9112345678901,"s":"BTCUSDT","b":"91234.50","B":"4.213","a":"91234.60","A":"1.870",
        "T":1795375275560,"E":1795375275568}""",
        QUOTE,
    ),
    "mark price with a negative funding rate": (
        "btcusdt@markPrice@1s",
        """{"e":"markPriceUpdate","E":1795375276000,"s":"BTCUSDT","p":"91231.40000000","ap":"91230.95000000",
        "P":"91230.11034221","i":"91236.02186957","r":"-0.00010000","T":1795392000000,"st":1}""",
        MARK,
    ),
    "aggregated trade": (
        "btcusdt@aggTrade",
        """{"e":"aggTrade","E":1795375275570,"s":"BTCUSDT","a":3141592653,"p":"91234.60","q":"0.250","nq":"0.230",
        "f":6900000001,"l":6900000004,"T":1795375275488,"m":false,"st":1}""",
        AGG_TRADE,
    ),
    "single trade": (
        "btcusdt@trade",
        """{"e":"trade","E":1795375275570,"T":1795375275488,"s":"BTCUSDT","t":6900000004,"p":"91234.60","q":"0.020",
        "X":"MARKET","m":true,"st":1}""",
        TRADE,
    ),
    "running candle": (
        "btcusdt@kline_1m",
        """{"e":"kline","E":1795375275610,"s":"BTCUSDT","k":{"t":1795375260000,"T":1795375319999,"s":"BTCUSDT",
        "i":"1m","f":6899999001,"L":6900000004,"o":"91210.00","c":"91234.60","h":"91240.00","l":"91205.10",
        "v":"152.331","n":1004,"x":false,"q":"13896012.44120","V":"80.120","Q":"7309000.10000","B":"0"}}""",
        BAR,
    ),
    "change of the order book": (
        "btcusdt@depth@100ms",
        """{"e":"depthUpdate","E":1795375275600,"T":1795375275594,"s":"BTCUSDT","ps":"BTCUSDT","U":9112345678850,
        "u":9112345678901,"pu":9112345678849,"b":[["91234.50","4.213"],["91230.00","0.000"]],
        "a":[["91234.60","1.870"]],"st":1}""",
        DIFF,
    ),
    "small ticker": (
        "btcusdt@miniTicker",
        """{"e":"24hrMiniTicker","E":1795375276010,"s":"BTCUSDT","c":"91234.60","o":"90001.00","h":"92000.00",
        "l":"89750.10","v":"142330.221","q":"12934455667.12","ps":"BTCUSDT","st":1}""",
        TICKER,
    ),
    "full ticker": (
        "btcusdt@ticker",
        """{"e":"24hrTicker","E":1795375276010,"s":"BTCUSDT","ps":"BTCUSDT","p":"1233.60","P":"1.371","w":"90876.22",
        "c":"91234.60","Q":"0.020","o":"90001.00","h":"92000.00","l":"89750.10","v":"142330.221",
        "q":"12934455667.12","O":1795288860000,"C":1795375276004,"F":6892000000,"L":6900000004,"n":8000005,"st":1}""",
        TICKER,
    ),
}


def at(fact: msgspec.Struct) -> msgspec.Struct:
    """The fact as received at RECEIVED_NS, for those that remember it."""
    return fact if isinstance(fact, Bar) else msgspec.structs.replace(fact, received_ns=RECEIVED_NS)


golden = pytest.mark.parametrize(("stream", "event", "fact"), GOLDEN.values(), ids=GOLDEN.keys())


@golden
def test_a_bare_event_becomes_its_fact(stream: str, event: str, fact: msgspec.Struct) -> None:
    assert decode_frame(event.encode(), RECEIVED_NS) == at(fact)


@golden
def test_a_combined_frame_becomes_the_same_fact(stream: str, event: str, fact: msgspec.Struct) -> None:
    assert decode_frame(wrap(stream, event.encode()), RECEIVED_NS) == at(fact)


@golden
def test_neither_blanks_nor_the_order_of_keys_matter(stream: str, event: str, fact: msgspec.Struct) -> None:
    backwards = dict(reversed(json.loads(event).items()))
    frame = json.dumps({"data": backwards, "stream": stream, "new": [1]}, indent=1).encode()
    assert decode_frame(frame, RECEIVED_NS) == at(fact)
    assert decode_frame(json.dumps(backwards, indent=1).encode(), RECEIVED_NS) == at(fact)


@golden
def test_unknown_keys_are_ignored(stream: str, event: str, fact: msgspec.Struct) -> None:
    told = json.loads(event) | {"zz": {"deep": [None, 1.5]}, "st": None}
    assert decode_frame(json.dumps(told).encode(), RECEIVED_NS) == at(fact)


@golden
def test_a_frame_of_another_symbols_stream_is_refused(stream: str, event: str, fact: msgspec.Struct) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(wrap(f"ethusdt@{stream.partition('@')[2]}", event.encode()), RECEIVED_NS)


@golden
def test_a_frame_of_another_kind_of_stream_is_refused(stream: str, event: str, fact: msgspec.Struct) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(wrap("btcusdt@kline_5m", event.encode()), RECEIVED_NS)


@golden
def test_a_missing_key_is_refused(stream: str, event: str, fact: msgspec.Struct) -> None:
    told = json.loads(event)
    del told["s"]
    with pytest.raises(RemoteProtocolError):
        decode_frame(json.dumps(told).encode(), RECEIVED_NS)


@pytest.mark.parametrize("bad", ["NaN", "1e5", "", "1_0", "１", 91234.5, None])
@golden
def test_a_number_outside_the_grammar_is_refused(stream: str, event: str, fact: msgspec.Struct, bad: object) -> None:
    first_number = next(value for value in _values(json.loads(event)) if isinstance(value, str) and value[0].isdigit())
    frame = event.replace(json.dumps(first_number), json.dumps(bad), 1).encode()
    with pytest.raises(RemoteProtocolError):
        decode_frame(frame, RECEIVED_NS)


def _values(told: dict[str, object]) -> list[object]:
    """The values that are read, in a fixed order: prices of candles and levels of books are one step down."""
    inner = told.get("k", told)
    assert isinstance(inner, dict)
    return [inner[key] if not isinstance(inner[key], list) else inner[key][0][0] for key in "cpb" if key in inner]


@pytest.mark.parametrize("levels", ["depth5", "depth10@100ms", "depth20@500ms"])
def test_a_whole_book_is_never_taken_for_a_change_of_one(levels: str) -> None:
    _, event, change = GOLDEN["change of the order book"]
    whole = decode_frame(wrap(f"btcusdt@{levels}", event.encode()), RECEIVED_NS)
    assert isinstance(change, DepthDiff)
    assert whole == PartialDepth(
        change.symbol, change.final_update_id, change.bids, change.asks, change.event_time_ms, RECEIVED_NS
    )


def test_a_book_that_also_shows_retail_orders_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(wrap("btcusdt@rpiDepth@500ms", GOLDEN["change of the order book"][1].encode()), RECEIVED_NS)


@pytest.mark.parametrize(
    "frame",
    [b'{"e":"serverShutdown","E":7}', b'{"event":{"e":"serverShutdown","E":7}}', b'{"E":7,"e":"serverShutdown"}'],
)
def test_an_announced_end_is_understood_in_both_spellings(frame: bytes) -> None:
    assert decode_frame(frame, RECEIVED_NS) == ServerShutdown(7)


def test_a_candle_of_another_symbol_inside_its_event_is_refused() -> None:
    event = GOLDEN["running candle"][1].replace('"T":1795375319999,"s":"BTCUSDT"', '"T":1795375319999,"s":"ETHUSDT"')
    with pytest.raises(RemoteProtocolError):
        decode_frame(event.encode(), RECEIVED_NS)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b'{"e":"forceOrder","E":1}', id="an event labkit does not read"),
        pytest.param(b'{"e":5}', id="an event without a name"),
        pytest.param(b'{"stream":"btcusdt@bookTicker"}', id="a wrapper around nothing"),
        pytest.param(b'{"stream":"btcusdt@bookTicker","data":[]}', id="a wrapper around an array"),
        pytest.param(b'{"lastUpdateId":1,"bids":[],"asks":[]}', id="a REST snapshot"),
        pytest.param(b'{"id":1}', id="a reply without a result"),
        pytest.param(b'{"result":null}', id="a result without an id"),
        pytest.param(b"[" * 200_000, id="nested without end"),
        pytest.param(b'{"e":' + b"[" * 200_000, id="an event nested without end"),
        pytest.param(b'{"x":' + b"[" * 200_000, id="an unknown key nested without end"),
        pytest.param(b'{"e":"bookTicker","s":"\xed\xa0\x80"}', id="a lone surrogate"),
    ],
)
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(frame, RECEIVED_NS)


SEEDS = [wrap(stream, event.encode()) for stream, event, _ in GOLDEN.values()]


@given(st.binary())
@example(b'{"e":"bookTicker","u":' + b"9" * 500 + b"}")
def test_any_bytes_are_decoded_or_refused_and_nothing_else(frame: bytes) -> None:
    with suppress(RemoteProtocolError):
        decode_frame(frame, RECEIVED_NS)


@given(st.sampled_from(SEEDS), st.integers(0, 400), st.integers(0, 8), st.binary(max_size=8))
def test_any_damage_to_a_frame_is_decoded_or_refused_and_nothing_else(
    frame: bytes, position: int, cut: int, inserted: bytes
) -> None:
    with suppress(RemoteProtocolError):
        decode_frame(frame[:position] + inserted + frame[position + cut :], RECEIVED_NS)


def test_numbers_too_large_for_a_database_are_refused() -> None:
    event = GOLDEN["best bid and ask"][1].replace("9112345678901", str(2**64))
    with pytest.raises(RemoteProtocolError):
        decode_frame(event.encode(), RECEIVED_NS)


# ------------------------------------------------------------------------------------------------------- round trips

amounts = st.decimals(min_value=0, max_value=10**12, places=8)
signed = st.decimals(min_value=-1, max_value=1, places=8)
times = st.integers(0, 2**53)
ids = st.integers(0, 2**62)
symbols = st.sampled_from(["BTCUSDT", "1000PEPEUSDT", "币安人生USDT", "BTCUSDT_261225"])
levels = st.lists(st.tuples(amounts, amounts), max_size=5).map(tuple)
received = st.just(RECEIVED_NS)

quotes = st.builds(Quote, symbols, amounts, amounts, amounts, amounts, ids, times, received)
marks = st.builds(MarkPrice, symbols, amounts, amounts, signed, times, times, received)
trades = st.builds(Trade, symbols, ids, amounts, amounts, st.booleans(), times, times, received)
diffs = st.builds(DepthDiff, symbols, ids, ids, ids, levels, levels, times, received)
tickers = st.builds(Ticker, symbols, amounts, amounts, amounts, amounts, amounts, amounts, times, received)
bars = st.builds(
    Bar,
    symbols,
    st.sampled_from(["1m", "1h", "1M"]),
    times,
    times,
    *[amounts] * 6,
    ids,
    amounts,
    amounts,
    st.booleans(),
)
full_tickers = st.builds(
    Ticker24h,
    symbol=symbols,
    price_change=signed,
    price_change_percent=signed,
    weighted_average_price=amounts,
    last_price=amounts,
    last_quantity=amounts,
    open_price=amounts,
    high_price=amounts,
    low_price=amounts,
    volume=amounts,
    quote_volume=amounts,
    open_time_ms=times,
    close_time_ms=times,
    first_trade_id=ids,
    last_trade_id=ids,
    trade_count=ids,
)


@given(quotes)
def test_a_quote_survives_the_wire(quote: Quote) -> None:
    frame = wrap(streams.book_ticker_stream(quote.symbol), streams.encode_book_ticker(quote))
    assert decode_frame(frame, RECEIVED_NS) == quote


@given(marks)
def test_a_mark_price_survives_the_wire(mark: MarkPrice) -> None:
    frame = wrap(streams.mark_price_stream(mark.symbol), streams.encode_mark_price(mark))
    assert decode_frame(frame, RECEIVED_NS) == mark


@given(trades)
def test_a_trade_survives_the_wire_in_both_its_forms(trade: Trade) -> None:
    single = wrap(streams.trade_stream(trade.symbol), streams.encode_trade(trade))
    aggregated = wrap(streams.agg_trade_stream(trade.symbol), streams.encode_agg_trade(trade))
    assert decode_frame(single, RECEIVED_NS) == decode_frame(aggregated, RECEIVED_NS) == trade


@given(bars)
def test_a_bar_survives_the_wire(bar: Bar) -> None:
    frame = wrap(streams.kline_stream(bar.symbol, bar.interval), streams.encode_kline(bar, 5))
    assert decode_frame(frame, RECEIVED_NS) == bar


@given(diffs)
def test_a_change_of_the_book_survives_the_wire(diff: DepthDiff) -> None:
    frame = wrap(streams.depth_stream(diff.symbol, "100ms"), streams.encode_depth(diff))
    assert decode_frame(frame, RECEIVED_NS) == diff


@given(tickers)
def test_a_small_ticker_survives_the_wire(ticker: Ticker) -> None:
    frame = wrap(streams.mini_ticker_stream(ticker.symbol), streams.encode_mini_ticker(ticker))
    assert decode_frame(frame, RECEIVED_NS) == ticker


@given(full_tickers, times)
def test_the_common_part_of_a_full_ticker_survives_the_wire(told: Ticker24h, event_time_ms: int) -> None:
    frame = wrap(streams.ticker_stream(told.symbol), streams.encode_ticker(told, event_time_ms))
    assert decode_frame(frame, RECEIVED_NS) == Ticker(
        told.symbol,
        told.last_price,
        told.open_price,
        told.high_price,
        told.low_price,
        told.volume,
        told.quote_volume,
        event_time_ms,
        RECEIVED_NS,
    )


def test_our_frames_have_every_key_and_type_of_the_protocol() -> None:
    full = Ticker24h(
        **{
            name: "BTCUSDT" if name == "symbol" else 1 if name.endswith(("_ms", "_id", "_count")) else Decimal("1.5")
            for name in Ticker24h.__struct_fields__
        }
    )
    ours = {
        "best bid and ask": streams.encode_book_ticker(QUOTE),
        "mark price with a negative funding rate": streams.encode_mark_price(MARK),
        "aggregated trade": streams.encode_agg_trade(AGG_TRADE),
        "single trade": streams.encode_trade(TRADE),
        "running candle": streams.encode_kline(BAR, 1795375275610),
        "change of the order book": streams.encode_depth(DIFF),
        "small ticker": streams.encode_mini_ticker(TICKER),
        "full ticker": streams.encode_ticker(full, 1795375276010),
    }
    for name, frame in ours.items():
        assert json_types(json.loads(frame)) == json_types(json.loads(GOLDEN[name][1])), name


def json_types(value: object) -> object:
    if isinstance(value, dict):
        return {key: json_types(item) for key, item in value.items()}
    return type(value).__name__


# ---------------------------------------------------------------------------------------------------- names, control


@pytest.mark.parametrize(
    ("stream", "route"),
    [
        ("btcusdt@bookTicker", "public"),
        ("!bookTicker", "public"),
        ("btcusdt@depth", "public"),
        ("btcusdt@depth@100ms", "public"),
        ("btcusdt@depth20@100ms", "public"),
        ("btcusdt@rpiDepth@500ms", "public"),
        ("btcusdt@trade", "public"),
        ("btcusdt@aggTrade", "market"),
        ("btcusdt@markPrice@1s", "market"),
        ("!markPrice@arr@1s", "market"),
        ("!miniTicker@arr", "market"),
        ("btcusdt@kline_1m", "market"),
        ("btcusdt_perpetual@continuousKline_1m", "market"),
        ("btcusdt@ticker", "market"),
        ("btcusdt@forceOrder", "market"),
        ("!contractInfo", "market"),
        ("tradingSession", "market"),
        ("pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1", "private"),
    ],
)
def test_each_stream_has_one_route(stream: str, route: str) -> None:
    assert streams.route_of(stream) == route


def test_stream_names_are_lower_case_but_for_their_kind() -> None:
    assert [
        streams.book_ticker_stream("BTCUSDT"),
        streams.mark_price_stream("BTCUSDT"),
        streams.agg_trade_stream("BTCUSDT"),
        streams.trade_stream("BTCUSDT"),
        streams.kline_stream("BTCUSDT", "1M"),
        streams.depth_stream("BTCUSDT"),
        streams.depth_stream("BTCUSDT", "100ms"),
        streams.mini_ticker_stream("BTCUSDT"),
        streams.ticker_stream("BTCUSDT"),
    ] == [
        "btcusdt@bookTicker",
        "btcusdt@markPrice@1s",
        "btcusdt@aggTrade",
        "btcusdt@trade",
        "btcusdt@kline_1M",
        "btcusdt@depth",
        "btcusdt@depth@100ms",
        "btcusdt@miniTicker",
        "btcusdt@ticker",
    ]


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.sampled_from(["btcusdt@bookTicker", "币安人生usdt@trade"])), scalars)
def test_a_request_is_read_as_it_was_made(names: list[str], id: str | int | None) -> None:
    assert streams.decode_control(streams.encode_subscribe(names, id)) == ControlRequest("SUBSCRIBE", tuple(names), id)
    assert streams.decode_control(streams.encode_unsubscribe(names, id)) == ControlRequest(
        "UNSUBSCRIBE", tuple(names), id
    )
    assert streams.decode_control(streams.encode_list_subscriptions(id)) == ControlRequest("LIST_SUBSCRIPTIONS", (), id)


def test_a_property_request_is_read() -> None:
    request = streams.decode_control('{"method":"SET_PROPERTY","params":["combined",true],"id":4}')
    assert request == ControlRequest("SET_PROPERTY", ("combined", True), 4)


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        (b'{"result":null,"id":1}', ControlReply(1, None)),
        (b'{"result":["btcusdt@aggTrade"],"id":3}', ControlReply(3, ("btcusdt@aggTrade",))),
        (b'{"result":true,"id":"b6c9"}', ControlReply("b6c9", True)),
        (b'{"error":{"code":2,"msg":"Invalid request"},"id":7}', ControlReply(7, None, 2, "Invalid request")),
        (b'{"error":{"code":3,"msg":"Invalid JSON"}}', ControlReply(None, None, 3, "Invalid JSON")),
        (b'{"code":0,"msg":"Unknown property"}', ControlReply(None, None, 0, "Unknown property")),
    ],
)
def test_replies_come_out_between_the_events(frame: bytes, reply: ControlReply) -> None:
    assert decode_frame(frame, RECEIVED_NS) == reply


@given(st.none() | st.booleans() | st.lists(st.text(st.characters(exclude_categories=["Cs"]))).map(tuple), scalars)
def test_a_reply_survives_the_wire(result: bool | tuple[str, ...] | None, id: str | int | None) -> None:
    assert decode_frame(streams.encode_control_reply(result, id), RECEIVED_NS) == ControlReply(id, result)


def test_an_error_reply_survives_the_wire() -> None:
    frame = streams.encode_control_error(2, "Invalid request: no method", "abc")
    assert decode_frame(frame, RECEIVED_NS) == ControlReply("abc", None, 2, "Invalid request: no method")


@pytest.mark.parametrize(
    ("text", "code", "request_id"),
    [
        pytest.param("", 3, None, id="nothing"),
        pytest.param("hello", 3, None, id="not JSON"),
        pytest.param(b"\xff", 3, None, id="not UTF-8"),
        pytest.param("[]", 2, None, id="an array"),
        pytest.param('{"id":9}', 2, 9, id="no method"),
        pytest.param('{"method":"DANCE","id":9}', 2, 9, id="unknown method"),
        pytest.param('{"method":"SUBSCRIBE","params":"x","id":"a"}', 2, "a", id="params not a list"),
        pytest.param('{"method":"SUBSCRIBE","params":[1],"id":9}', 2, 9, id="a stream that is a number"),
        pytest.param('{"method":"SUBSCRIBE","params":[],"id":{}}', 2, None, id="id not a scalar"),
        pytest.param("[" * 200_000, 3, None, id="nested without end"),
    ],
)
def test_a_malformed_request_tells_what_to_answer(text: str | bytes, code: int, request_id: object) -> None:
    with pytest.raises(MalformedControl) as caught:
        streams.decode_control(text)
    assert (caught.value.code, caught.value.request_id) == (code, request_id)


@given(st.binary())
def test_any_bytes_are_a_request_or_malformed_and_nothing_else(text: bytes) -> None:
    with suppress(MalformedControl):
        streams.decode_control(text)


# --------------------------------------------------------------------------------------------------- recorded reality

FACT_OF_KIND = {"bookTicker": Quote, "markPrice": MarkPrice, "trade": Trade, "depth": DepthDiff, "aggTrade": Trade}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("recording", "every"),
    [
        pytest.param("BTCUSDT-20230404", 1, id="BTCUSDT-20230404"),
        pytest.param("BTCUSDT-20230405", 5, id="BTCUSDT-20230405, every fifth"),
        pytest.param("BTCUSDT-20240718", 1, id="BTCUSDT-20240718"),
        pytest.param("BTCUSDT-20240719", 5, id="BTCUSDT-20240719, every fifth"),
        pytest.param("ETHUSDT-20240718", 1, id="ETHUSDT-20240718"),
        pytest.param("ETHUSDT-20240719", 5, id="ETHUSDT-20240719, every fifth"),
    ],
)
def test_every_recorded_frame_is_decoded(real_data: Path, recording: str, every: int) -> None:
    seen: Counter[str] = Counter()
    with gzip.open(real_data / "ticks" / "um" / f"{recording}.raw.gz") as lines:
        for line in islice(lines, 0, None, every):
            _, _, frame = line.strip().partition(b" ")
            if not frame.startswith(b'{"stream"'):
                continue
            kind = frame[11:60].split(b'"')[0].decode().split("@")[1]
            assert type(decode_frame(frame, RECEIVED_NS)) is FACT_OF_KIND[kind]
            seen[kind] += 1
    assert seen["bookTicker"] > 1000


@pytest.mark.real_data
def test_every_recorded_frame_of_small_symbols_is_decoded(real_data: Path) -> None:
    seen: Counter[type] = Counter()
    with gzip.open(real_data / "ticks" / "um" / "MULTI4-20210722.ws.gz") as lines:
        for line in list(lines)[1:]:
            seen[type(decode_frame(line.strip().partition(b": ")[2], RECEIVED_NS))] += 1
    assert set(seen) == {Quote, Trade, Bar, DepthDiff}


@pytest.mark.real_data
def test_our_frames_have_the_keys_and_types_of_documented_ones(real_data: Path) -> None:
    samples = json.loads((real_data / "rest" / "doc-samples.json").read_text())
    ours = {
        "rust/market_data_json/agg_trade_stream.json": streams.encode_agg_trade(AGG_TRADE),
        "rust/market_data_json/book_ticker_stream.json": streams.encode_book_ticker(QUOTE),
        "rust/market_data_json/depth_update_stream.json": streams.encode_depth(DIFF),
        "rust/market_data_json/kline_stream_open.json": streams.encode_kline(BAR, 1),
        "rust/market_data_json/mark_price_stream.json": streams.encode_mark_price(MARK),
        "rust/market_data_json/trade_stream.json": streams.encode_trade(TRADE),
    }
    for name, frame in ours.items():
        told, sample = json_types(json.loads(frame)), json_types(samples[name])
        assert isinstance(told, dict)
        assert isinstance(sample, dict)
        assert sample.items() <= told.items(), name
