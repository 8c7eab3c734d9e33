"""The recorded market: every event once, in order, never before the exchange sent it; or refused before it starts."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.market_events import DepthDiff, Quote, Trade
from labkit.errors import TapeError
from labkit.paper.listings import LISTED_RULES, brackets_of
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.market_source import SourceEvent
from labkit.paper.market_tape import TapeMarket
from labkit.wire.streams import encode_agg_trade, encode_book_ticker, encode_mark_price, wrap
from labkit.wire.tape import TapeWriter, read_tape

NOON_MS = 1_721_304_000_000
DAY_MS = 86_400_000


def quote_frame(symbol: str, update_id: int, event_time_ms: int, bid: str = "100.10", quantity: str = "2.000") -> bytes:
    # Blanks and an unknown field: what no encoder of ours would write.
    data = (
        f'{{"e":"bookTicker","u":{update_id}, "s":"{symbol}","b":"{bid}","B":"{quantity}","a":"200.20","A":"1.000",'
        f'"T":{event_time_ms},"E":{event_time_ms},"new":1}}'
    )
    return f'{{"stream":"{symbol.lower()}@bookTicker","data":{data}}}'.encode()


def tape(path: Path, lines: Sequence[tuple[int, bytes]]) -> Path:
    """A recording of (receive time in ms, frame)."""
    with TapeWriter(path) as writer:
        for received_ms, frame in lines:
            writer.write(received_ms * 1_000_000, frame)
    return path


def quotes(
    path: Path, receive_times_ms: Sequence[int], *, symbol: str = "BTCUSDT", lag_ms: int = 0, first_id: int = 1
) -> Path:
    """A recording of quotes that were sent `lag_ms` before they were received."""
    return tape(
        path,
        [
            (received_ms, quote_frame(symbol, first_id + number, received_ms - lag_ms))
            for number, received_ms in enumerate(receive_times_ms)
        ],
    )


def played(market: TapeMarket, from_ms: int = 0) -> list[SourceEvent]:
    return list(market.events(from_ms))


def update_ids(events: Sequence[SourceEvent]) -> list[int]:
    return [event.fact.update_id for event in events if isinstance(event.fact, Quote)]


def test_the_frame_keeps_its_bytes(tmp_path: Path) -> None:
    frame = quote_frame("BTCUSDT", 7, NOON_MS)
    (event,) = played(TapeMarket([tape(tmp_path / "a.raw.gz", [(NOON_MS, frame)])]))
    assert wrap(event.stream, event.frame).replace(b" ", b"") == frame.replace(b" ", b"")
    assert event.frame in frame


@pytest.mark.parametrize("lag_ms", [-1_520, 0, 40], ids=["clock behind", "clock exact", "clock ahead"])
def test_a_steady_clock_error_is_taken_out(tmp_path: Path, lag_ms: int) -> None:
    market = TapeMarket([quotes(tmp_path / "a.raw", [NOON_MS, NOON_MS + 70, NOON_MS + 100], lag_ms=lag_ms)])
    assert [event.time_ms for event in played(market)] == [NOON_MS - lag_ms + later for later in (0, 70, 100)]
    assert (market.start_ms, market.end_ms) == (NOON_MS - lag_ms, NOON_MS - lag_ms + 100)


@given(lags_ms=st.lists(st.integers(-2_000, 2_000), min_size=1, max_size=20))
def test_no_event_is_met_before_it_was_sent_and_the_spacing_stays(
    tmp_path_factory: pytest.TempPathFactory, lags_ms: list[int]
) -> None:
    lines = [
        (NOON_MS + 37 * number, quote_frame("BTCUSDT", number + 1, NOON_MS + 37 * number - lag_ms))
        for number, lag_ms in enumerate(lags_ms)
    ]
    events = played(TapeMarket([tape(tmp_path_factory.mktemp("tape") / "a.raw", lines)]))
    assert all(event.time_ms >= event.fact.event_time_ms for event in events)
    assert [event.time_ms - events[0].time_ms for event in events] == [37 * number for number in range(len(lines))]


def test_files_that_follow_one_another_are_one_recording(tmp_path: Path) -> None:
    early = quotes(tmp_path / "b.raw", [NOON_MS, NOON_MS + 50], lag_ms=10, first_id=1)
    late = quotes(tmp_path / "a.raw", [NOON_MS + 51, NOON_MS + 60], lag_ms=4, first_id=3)
    events = played(TapeMarket([late, early]))
    assert update_ids(events) == [1, 2, 3, 4]
    assert [event.time_ms for event in events] == [NOON_MS - 4 + later for later in (0, 50, 51, 60)]


def test_recordings_of_different_symbols_are_merged_by_exchange_time(tmp_path: Path) -> None:
    bitcoin = quotes(tmp_path / "btc.raw", [NOON_MS, NOON_MS + 20], lag_ms=0)
    ether = quotes(tmp_path / "eth.raw", [NOON_MS + 1_010, NOON_MS + 1_030], symbol="ETHUSDT", lag_ms=1_000)
    market = TapeMarket([bitcoin, ether])
    assert market.symbols == ("BTCUSDT", "ETHUSDT")
    assert [(e.fact.symbol, e.time_ms - NOON_MS) for e in played(market)] == [
        ("BTCUSDT", 0),
        ("ETHUSDT", 10),
        ("BTCUSDT", 20),
        ("ETHUSDT", 30),
    ]


def test_simultaneous_events_keep_their_order(tmp_path: Path) -> None:
    bitcoin = quotes(tmp_path / "btc.raw", [NOON_MS] * 3)
    ether = quotes(tmp_path / "eth.raw", [NOON_MS] * 3, symbol="ETHUSDT", first_id=11)
    assert update_ids(played(TapeMarket([bitcoin, ether]))) == [1, 2, 3, 11, 12, 13]


def test_a_clock_that_was_set_back_does_not_change_the_order(tmp_path: Path) -> None:
    path = quotes(tmp_path / "a.raw", [NOON_MS, NOON_MS + 500, NOON_MS + 100, NOON_MS + 600])
    events = played(TapeMarket([path]))
    assert update_ids(events) == [1, 2, 3, 4]
    assert [event.time_ms - events[0].time_ms for event in events] == [0, 500, 500, 600]


def test_starting_later_gives_the_rest(tmp_path: Path) -> None:
    first = quotes(tmp_path / "a.raw", range(NOON_MS, NOON_MS + 100, 10))
    second = quotes(tmp_path / "b.raw", range(NOON_MS + 100, NOON_MS + 200, 10), first_id=11)
    market = TapeMarket([first, second])
    assert played(market, NOON_MS + 55) == [event for event in played(market) if event.time_ms >= NOON_MS + 55]
    assert update_ids(played(market, NOON_MS + 150)) == [16, 17, 18, 19, 20]
    assert played(market, NOON_MS + 1_000) == []


def test_a_file_given_twice_is_played_once(tmp_path: Path) -> None:
    path = quotes(tmp_path / "a.raw", [NOON_MS])
    assert len(played(TapeMarket([path, str(path), tmp_path]))) == 1


def test_a_folder_is_all_its_recordings_and_nothing_else(tmp_path: Path) -> None:
    quotes(tmp_path / "a.raw.gz", [NOON_MS])
    quotes(tmp_path / "b.raw", [NOON_MS], symbol="ETHUSDT")
    (tmp_path / "notes.txt").write_text("not a recording")
    assert TapeMarket([tmp_path]).symbols == ("BTCUSDT", "ETHUSDT")


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="no recording in this folder"):
        TapeMarket([tmp_path])


def test_two_recordings_of_one_stream_at_one_time_are_refused(tmp_path: Path) -> None:
    one = quotes(tmp_path / "one.raw", [NOON_MS, NOON_MS + 100])
    two = quotes(tmp_path / "two.raw", [NOON_MS + 50, NOON_MS + 150])
    with pytest.raises(TapeError, match="both record btcusdt@bookTicker at the same time"):
        TapeMarket([one, two])


def test_recordings_of_different_times_are_not_played_in_one_go(tmp_path: Path) -> None:
    one = quotes(tmp_path / "one.raw", [NOON_MS])
    two = quotes(tmp_path / "two.raw", [NOON_MS + 400 * DAY_MS])
    with pytest.raises(TapeError, match="400 days apart"):
        TapeMarket([one, two])


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(
            quote_frame("ETHUSDT", 1, NOON_MS).replace(b"ethusdt", b"btcusdt"), "ETHUSDT", id="another symbol's frame"
        ),
        pytest.param(quote_frame("BTCUSDT", 1, NOON_MS, bid="NaN"), "line 2", id="not a number"),
        pytest.param(quote_frame("BTCUSDT", 1, NOON_MS, bid="1e5"), "line 2", id="an exponent"),
        pytest.param(
            b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}}',
            "line 2",
            id="a spot frame without a time",
        ),
        pytest.param(b'{"stream":"btcusdt@trade","data":[1]}', "line 2", id="a list"),
    ],
)
def test_a_line_that_cannot_be_played_is_found_before_the_market_exists(
    tmp_path: Path, frame: bytes, reason: str
) -> None:
    path = tape(tmp_path / "a.raw.gz", [(NOON_MS, quote_frame("BTCUSDT", 1, NOON_MS)), (NOON_MS + 1, frame)])
    with pytest.raises(TapeError, match=reason) as caught:
        TapeMarket([path])
    assert (caught.value.path, caught.value.line) == (str(path), 2)


def test_a_recording_that_was_cut_off_is_found_before_the_market_exists(tmp_path: Path) -> None:
    path = quotes(tmp_path / "a.raw", range(NOON_MS, NOON_MS + 500))
    cut = tmp_path / "cut.raw.gz"
    cut.write_bytes(gzip.compress(path.read_bytes())[:-50])
    with pytest.raises(TapeError, match="cut off"):
        TapeMarket([cut])


@pytest.mark.parametrize("stream", ["btcusdt@kline_1m", "btcusdt@forceOrder", "btcusdt@depth5@100ms", "!ticker@arr"])
def test_streams_the_venue_makes_itself_are_left_out(tmp_path: Path, stream: str) -> None:
    frame = b'{"stream":"%s","data":{"e":"unknown"}}' % stream.encode()
    path = tape(tmp_path / "a.raw", [(NOON_MS, frame), (NOON_MS + 1, quote_frame("BTCUSDT", 1, NOON_MS))])
    assert [event.stream for event in played(TapeMarket([path]))] == ["btcusdt@bookTicker"]


def test_a_recording_with_nothing_to_play_is_refused(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.raw", [(NOON_MS, b'{"stream":"btcusdt@kline_1m","data":{}}')])
    with pytest.raises(TapeError, match="no line of this recording can be played"):
        TapeMarket([path])


def test_listed_rules_hold_where_the_recording_fits_them(tmp_path: Path) -> None:
    market = TapeMarket([quotes(tmp_path / "a.raw", [NOON_MS])])
    assert market.rules()["BTCUSDT"] == LISTED_RULES["BTCUSDT"]


@pytest.mark.parametrize(
    ("symbol", "bid", "quantity", "tick", "step"),
    [
        pytest.param("BTCUSDT", "100.13", "2.000", "0.01", "1", id="an old, finer grid"),
        pytest.param("SUSHIUSDT", "7.6110", "2.5", "0.001", "0.1", id="a symbol that is not listed"),
    ],
)
def test_other_rules_are_told_from_the_recording(
    tmp_path: Path, symbol: str, bid: str, quantity: str, tick: str, step: str
) -> None:
    frame = quote_frame(symbol, 1, NOON_MS, bid=bid, quantity=quantity)
    market = TapeMarket([tape(tmp_path / "a.raw", [(NOON_MS, frame)])])
    rules = market.rules()[symbol]
    assert (rules.tick_size, rules.step_size) == (Decimal(tick), Decimal(step))
    assert market.brackets()[symbol] == brackets_of(symbol)


def test_a_recording_remembers_no_history(tmp_path: Path) -> None:
    market = TapeMarket([quotes(tmp_path / "a.raw", [NOON_MS])])
    assert market.history("BTCUSDT", 0, NOON_MS + DAY_MS) == []


def test_the_disclosure_tells_when_it_was(tmp_path: Path) -> None:
    assert "2024-07-18 12:00 UTC" in TapeMarket([quotes(tmp_path / "a.raw", [NOON_MS])]).disclosure


def test_a_simulated_market_survives_being_recorded(tmp_path: Path) -> None:
    simulated = SimulatedMarket(
        ("BTCUSDT", "DOGEUSDT"), seed=3, start_ms=NOON_MS, history_days=1, planted_edge=0.0, quotes_per_second=2.0
    )
    lived = list(itertools.islice(simulated.events(NOON_MS), 500))
    with TapeWriter(tmp_path / "a.raw.gz") as writer:
        for event in lived:
            match event.fact:
                case Quote() as quote:
                    data = encode_book_ticker(quote)
                case Trade() as trade:
                    data = encode_agg_trade(trade)
                case mark:
                    assert not isinstance(mark, DepthDiff)
                    data = encode_mark_price(mark)
            writer.write(event.time_ms * 1_000_000, wrap(event.stream, data))
    again = played(TapeMarket([tmp_path / "a.raw.gz"]))
    assert [(e.time_ms, e.stream) for e in again] == [(e.time_ms, e.stream) for e in lived]
    for was, now in zip(lived, again, strict=True):
        assert now.fact.symbol == was.fact.symbol
        if isinstance(was.fact, Quote) and isinstance(now.fact, Quote):
            assert (now.fact.bid_price, now.fact.ask_quantity) == (was.fact.bid_price, was.fact.ask_quantity)


@pytest.mark.real_data
def test_every_recorded_book_ticker_is_played_once_and_in_order(real_data: Path) -> None:
    folder = real_data / "ticks" / "um"
    paths = [folder / name for name in ("BTCUSDT-20240718.raw.gz", "ETHUSDT-20240718.raw.gz")]
    market = TapeMarket(paths)
    events = played(market)
    for symbol, path in zip(("btcusdt", "ethusdt"), paths, strict=True):
        stream = f"{symbol}@bookTicker"
        recorded = [line.data for line in read_tape(path) if line.stream == stream]
        assert [event.frame for event in events if event.stream == stream] == recorded
    times = [event.time_ms for event in events]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (market.start_ms, market.end_ms)
    assert all(event.time_ms >= event.fact.event_time_ms for event in events)


@pytest.mark.real_data
def test_two_days_of_one_recorder_join_without_a_gap_in_the_book(real_data: Path) -> None:
    folder = real_data / "ticks" / "um"
    market = TapeMarket([folder / "BTCUSDT-20230405.raw.gz", folder / "BTCUSDT-20230404.raw.gz"])
    around_midnight = itertools.takewhile(lambda e: e.time_ms < 1_680_652_810_000, market.events(1_680_652_790_000))
    diffs = [event.fact for event in around_midnight if isinstance(event.fact, DepthDiff)]
    assert len(diffs) > 400
    for before, after in itertools.pairwise(diffs):
        assert after.previous_final_update_id == before.final_update_id


@pytest.mark.real_data
def test_a_recording_in_another_layout_brings_its_own_rules(real_data: Path) -> None:
    market = TapeMarket([real_data / "ticks" / "um" / "MULTI4-20210722.ws.gz"])
    assert set(market.symbols) == {"SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"}
    assert market.rules()["AKROUSDT"].tick_size == Decimal("0.00001")
    assert sum(isinstance(event.fact, Quote) for event in market.events(0)) == 88 + 145 + 75 + 305


@pytest.mark.real_data
def test_a_spot_recording_is_refused(real_data: Path) -> None:
    with pytest.raises(TapeError, match="line 2"):
        TapeMarket([real_data / "ticks" / "spot" / "BTCUSDT-20230405.raw.gz"])
