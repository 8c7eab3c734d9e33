"""The short way of an ordinary quote against the strict way: what is seen from outside must not differ."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.config import MonitorConfig
from labkit.market import quote_lane
from labkit.market.quotes import JUMP_BAND, QuoteCache
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.wire.frames import Frames
from labkit.wire.streams import decode_frame

NOW_MS = 1_767_571_200_000
Play = Callable[..., Any]


def frame_of(symbol: str = "BTCUSDT", **changes: object) -> bytes:
    """A bookTicker frame as the exchange writes it, with raw JSON values to be changed where a test needs it."""
    name = changes.pop("stream", f"{symbol.lower()}@bookTicker")
    facts = {
        "u": 7, "s": f'"{symbol}"', "ps": f'"{symbol}"', "b": '"100.00"', "B": '"1.5"', "a": '"100.10"', "A": '"2"',
        "T": NOW_MS - 5, "E": NOW_MS, "st": 1,
    } | changes  # fmt: skip
    members = "".join(f',"{key}":{value}' for key, value in facts.items() if value is not None)
    return f'{{"stream":"{name}","data":{{"e":"bookTicker"{members}}}}}'.encode()


def followed(first: bytes, symbol: str = "BTCUSDT") -> QuoteCache:
    """A cache that accepted `first` over connection 1 and follows its symbol there."""
    cache = QuoteCache((symbol, "ETHUSDT"), stale_after_ms=3_000)
    assert cache.accept_quote(decode_frame(first, NOW_MS * 1_000_000), 1)  # type: ignore[arg-type]
    cache.follow(symbol, 1)
    return cache


def lane_takes(cache: QuoteCache, frame: bytes, *, epoch: int = 1) -> bool:
    return cache.lane.take(Frames.of([frame]), 0, epoch, NOW_MS * 1_000_000, False) == 1


def test_the_lane_gives_the_very_quote_of_the_strict_way_trailing_zeros_included() -> None:
    cache, frame = followed(frame_of()), frame_of(u=8, b='"100.050"', B='"0.10"', a='"100.0500"', A='"700"')
    assert lane_takes(cache, frame)
    assert repr(cache.quote("BTCUSDT")) == repr(decode_frame(frame, NOW_MS * 1_000_000))


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(frame_of(u=8, T=None, ps=None, st=None), id="of 2023"),
        pytest.param(frame_of(u=None, E=None, T=None) [:-2] + b',"E":1767571200001,"u":9}}', id="another order"),
        pytest.param(frame_of(u=8, b='"100.1"', a='"100.10"'), id="a locked book"),
        pytest.param(frame_of(u=8, E=NOW_MS - 3_000), id="as old as it may be"),
        pytest.param(frame_of(u=2**59), id="a long update id"),
    ],
)  # fmt: skip
def test_an_ordinary_quote_takes_the_lane(frame: bytes) -> None:
    assert lane_takes(followed(frame_of()), frame)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(frame_of(u=7), id="the same update id"),
        pytest.param(frame_of(u=8, b='"0"'), id="no price"),
        pytest.param(frame_of(u=8, A='"0.000"'), id="one-sided"),
        pytest.param(frame_of(u=8, b='"100.11"'), id="crossed"),
        pytest.param(frame_of(u=8, b='"106"', a='"106"'), id="a jump"),
        pytest.param(frame_of(u=8, b='"-100"'), id="a sign"),
        pytest.param(frame_of(u=8, b='"1e2"'), id="an exponent"),
        pytest.param(frame_of(u=8, b='"NaN"'), id="not a number"),
        pytest.param(frame_of(u=8, b='"100."'), id="a bare point"),
        pytest.param(frame_of(u=8, b='"１００"'), id="full-width digits"),
        pytest.param(frame_of(u=8, b="100"), id="a price that is no text"),
        pytest.param(frame_of(u='"8"'), id="an update id that is text"),
        pytest.param(frame_of(u="08"), id="a leading zero"),
        pytest.param(frame_of(u="8.0"), id="a fraction as update id"),
        pytest.param(frame_of(u=2**63), id="an update id beyond 64 bits"),
        pytest.param(frame_of(u=8, B=None), id="a quantity missing"),
        pytest.param(frame_of(u=8)[:-2] + b',"u":9}}', id="a key twice"),
        pytest.param(frame_of(u=8, s='"ETHUSDT"'), id="another symbol inside"),
        pytest.param(frame_of(u=8, s='"BTCUSDTX"'), id="a longer symbol inside"),
        pytest.param(frame_of("ETHUSDT", u=8), id="not followed"),
        pytest.param(frame_of("DOGEUSDT", u=8), id="not watched"),
        pytest.param(frame_of(u=8, stream="!bookTicker"), id="the stream of all symbols"),
        pytest.param(frame_of(u=8, ps='"a\\"b"'), id="an escape"),
        pytest.param(frame_of(u=8, ps="[1]"), id="an unknown key that is a list"),
        pytest.param(frame_of(u=8, E=NOW_MS - 3_001), id="too old"),
        pytest.param(frame_of(u=8, E=NOW_MS + 3_001), id="from the future"),
        pytest.param(frame_of(u=8) + b" ", id="something after it"),
        pytest.param(frame_of(u=8)[:-1], id="cut off"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_whatever_is_not_ordinary_is_left_untouched_for_the_strict_way(frame: bytes) -> None:
    cache = followed(frame_of())
    before = cache.quote("BTCUSDT")
    assert not lane_takes(cache, frame)
    assert cache.quote("BTCUSDT") is before
    assert cache.lane.taken == 0


def test_no_prefix_of_a_frame_is_taken_and_nothing_is_read_beyond_its_end() -> None:
    cache, frame = followed(frame_of()), frame_of(u=8)
    for length in range(len(frame)):
        spans = Frames.of([frame])
        spans.spans[0, 1] = length
        assert cache.lane.take(spans, 0, 1, NOW_MS * 1_000_000, False) == 0


def test_a_connection_that_is_not_the_followed_one_takes_the_strict_way() -> None:
    assert not lane_takes(followed(frame_of()), frame_of(u=8), epoch=2)


def test_a_symbol_of_other_scripts_is_followed_too() -> None:
    cache = followed(frame_of("币安人生USDT"), "币安人生USDT")
    assert lane_takes(cache, frame_of("币安人生USDT", u=8, ps=None))


def test_a_price_finer_than_the_lane_can_hold_is_left_to_the_strict_way() -> None:
    cache = followed(frame_of(b='"100.0000000001"'))
    assert not lane_takes(cache, frame_of(u=8))


def test_symbols_come_and_go_without_being_mistaken_for_each_other() -> None:
    cache = followed(frame_of())
    names = [f"COIN{number}USDT" for number in range(200)]
    for number, name in enumerate(names):
        cache.add(name)
        cache.accept_quote(decode_frame(frame_of(name), NOW_MS * 1_000_000), 1)  # type: ignore[arg-type]
        cache.follow(name, 1)
        if number % 3 == 0:
            cache.remove(name)
            assert not lane_takes(cache, frame_of(name, u=8))
    for number, name in enumerate(names):
        assert lane_takes(cache, frame_of(name, u=9 + number)) is (number % 3 != 0)
        if number % 3:
            quote = cache.quote(name)
            assert quote is not None
            assert (quote.symbol, quote.update_id) == (name, 9 + number)


def test_the_band_of_the_lane_is_the_band_of_the_cache() -> None:
    assert Fraction(JUMP_BAND) == Fraction(1, quote_lane.BAND_PARTS)


DEVIATIONS: list[dict[str, Any]] = [
    {"rise": 0}, {"rise": -2}, {"rise": 2**40}, {"cents": 10_400}, {"cents": 10_500}, {"cents": 10_499},
    {"cents": 10_501}, {"cents": 10_900}, {"cents": 10_900}, {"cents": 5_000}, {"cents": 0}, {"spread": -1},
    {"spread": 0}, {"late_ms": 500}, {"late_ms": 3_000}, {"late_ms": 3_001}, {"late_ms": 60_000}, {"late_ms": -3_000},
    {"late_ms": -3_001}, {"quantity": '"0"'}, {"quantity": '"-1"'}, {"quantity": '"1e5"'}, {"quantity": "null"},
    {"symbol": "DOGEUSDT"}, {"cut": True},
]  # fmt: skip
BYTES = [0, 34, 44, 45, 46, 48, 57, 69, 92, 125, 200, 255]


def step_of(draw: random.Random) -> dict[str, Any]:
    """One frame and the rest after it: usually ordinary, at times wrong in one way, at times in one byte."""
    step: dict[str, Any] = {
        "symbol": draw.choice(["BTCUSDT", "BTCUSDT", "ETHUSDT"]),
        "rise": draw.randint(1, 9),
        "cents": draw.randint(9_990, 10_050),
        "spread": draw.randint(0, 5),
        "late_ms": draw.choice([0, 0, 3]),
        "quantity": '"1.50"',
        "cut": False,
        "mutation": (draw.randrange(190), draw.choice(BYTES)) if draw.random() < 0.05 else None,
        "rest": draw.choice([0.0, 0.0, 0.0, 0.0, 0.01, 0.01, 0.01, 0.9, 3.4]),
    }
    return step | (draw.choice(DEVIATIONS) if draw.random() < 0.2 else {})


def live_through(
    play: Play, steps: list[dict[str, Any]], *, listened_to: tuple[str, ...] | None
) -> tuple[list[Any], int]:
    """All that a monitor shows after each rest and at the end, and how many frames took the lane."""
    told: list[Any] = []

    async def scenario(scene: Any) -> None:
        monitor = scene.monitor
        if listened_to is None:
            monitor.on_quote = WebSocketMonitor([]).on_quote
        else:
            monitor.listen_to(listened_to)
        await scene.pass_seconds(0.2)
        update_id, waiting = 1_000, []
        for step in steps:
            update_id += step["rise"]
            frame = frame_of(
                step["symbol"],
                u=update_id,
                b=f'"{step["cents"] / 100:.2f}"',
                a=f'"{(step["cents"] + step["spread"]) / 100:.2f}"',
                B=step["quantity"],
                E=scene.clock.now_ms() - step["late_ms"],
            )
            if step["mutation"]:
                at, byte = step["mutation"]
                frame = frame[:at] + bytes([byte]) + frame[at + 1 :]
            waiting.append(frame)
            if step["rest"] or step["cut"]:
                for connection in scene.exchange.on_route("public"):
                    connection.push_together(waiting)
                waiting = []
                if step["cut"]:
                    scene.exchange.cut("public")
                await scene.pass_seconds(step["rest"] or 1.0)
                told.append((monitor.symbol_rows(), monitor.streams_status()))
        told.append((monitor.frames, monitor.frames_by_stream_type, monitor.rejected, monitor.reconnects))
        told.append((monitor.latency_ms, scene.health, scene.quotes))

    scene = play(scenario, config=MonitorConfig(backoff_first_ms=10), trading=False)
    return told, scene.monitor._cache.lane.taken


@pytest.mark.parametrize(
    "listened_to",
    [None, (), ("BTCUSDT",), ("BTCUSDT", "ETHUSDT")],
    ids=["nobody listens", "a listener to nothing", "a listener to one symbol", "a listener to all"],
)
@pytest.mark.parametrize("seed", range(8))
def test_with_the_lane_and_without_it_the_monitor_shows_the_same(
    play: Play, seed: int, listened_to: tuple[str, ...] | None
) -> None:
    draw = random.Random(seed)
    steps = [step_of(draw) for _ in range(300)]
    with_lane, taken = live_through(play, steps, listened_to=listened_to)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quote_lane.QuoteLane, "follow", lambda *_: None)
        without_lane, none_taken = live_through(play, steps, listened_to=listened_to)
    assert with_lane == without_lane
    assert taken > 50
    assert none_taken == 0


def test_a_connection_that_speaks_again_just_after_it_was_given_up_is_told_at_once(play: Play) -> None:
    """While a connection is doubted the lane must take nothing, or nobody would hear that the doubt is over."""

    async def scenario(scene: Any) -> None:
        for at_seconds in (0.1, 0.2):
            await scene.pass_seconds(at_seconds)
            for symbol in scene.symbols:
                scene.exchange.publish_quote(symbol)
        # The quotes are as old as they may be, not older: only the connection is too silent.
        await scene.pass_seconds(3.0002)
        assert scene.health[-1][1:3] == ("public", False)
        assert scene.monitor.why_stale("BTCUSDT") == ""
        for symbol in scene.symbols:
            scene.exchange.publish_quote(symbol)
        await scene.pass_seconds(0.0002)
        assert scene.health[-1][1:3] == ("public", True)

    play(scenario, trading=False)


def mutated(draw: random.Random, frame: bytes) -> bytes:
    """The frame with some of its members, bytes or spellings changed; sometimes still a good one."""
    for _ in range(draw.choice([1, 1, 2, 3])):
        at, kind = draw.randrange(len(frame)), draw.randrange(6)
        members = frame.split(b",")
        one, other = draw.randrange(len(members)), draw.randrange(len(members))
        if kind == 0:
            frame = frame[:at] + bytes([draw.choice(b'0123456789.,:"{}[]\\ eE+-@abBAus\x00\xff')]) + frame[at + 1 :]
        elif kind == 1:
            frame = frame[:at] + frame[at + draw.randint(1, 3) :]
        elif kind == 2:
            frame = frame[:at] + frame[at : at + draw.randint(1, 3)] + frame[at:]
        elif kind == 3:
            members[one], members[other] = members[other], members[one]
            frame = b",".join(members)
        elif kind == 4:
            frame = b",".join([*members[:one], members[other], *members[one:]])
        else:
            digits = [place for place, byte in enumerate(frame) if 48 <= byte <= 57]
            place = draw.choice(digits)
            frame = frame[:place] + bytes([draw.randint(48, 57)]) + frame[place + 1 :]
    return frame


def test_of_twenty_thousand_mutated_frames_the_lane_takes_only_what_the_strict_way_takes_and_reads_alike() -> None:
    draw = random.Random(5)
    ordinary = [frame_of(u=8), frame_of(u=8, T=None, ps=None, st=None), frame_of(u=8, b='"99.9"', B='"0.001"')]
    taken = 0
    for _ in range(20_000):
        frame = mutated(draw, draw.choice(ordinary))
        cache = followed(frame_of())
        if lane_takes(cache, frame):
            taken += 1
            quote: Any = decode_frame(frame, NOW_MS * 1_000_000)
            assert followed(frame_of()).accept_quote(quote, 1), frame
            assert repr(cache.quote("BTCUSDT")) == repr(quote), frame
    # Most changes of a digit, an order or a member of no meaning leave a good frame.
    assert 2_000 < taken < 18_000


@settings(max_examples=300, deadline=None)
@given(
    at=st.integers(0, 190),
    cut=st.integers(0, 3),
    new=st.binary(max_size=3),
    changes=st.dictionaries(
        st.sampled_from(["u", "s", "ps", "b", "B", "a", "A", "T", "E", "st", "x"]),
        st.sampled_from(["8", "9.5", '"8"', '"100.01"', '"x"', "null", "[]", '"0100"', str(NOW_MS), "-1", "true"]),
        max_size=3,
    ),
)
def test_whatever_bytes_the_lane_takes_the_strict_way_takes_too_and_reads_alike(
    at: int, cut: int, new: bytes, changes: dict[str, object]
) -> None:
    frame = frame_of(**({"u": 8} | changes))
    frame = frame[:at] + new + frame[at + cut :]
    cache, strict = followed(frame_of()), followed(frame_of())
    if lane_takes(cache, frame):
        quote: Any = decode_frame(frame, NOW_MS * 1_000_000)
        assert strict.accept_quote(quote, 1)
        assert repr(cache.quote("BTCUSDT")) == repr(quote)


@pytest.mark.real_data
def test_recorded_quotes_take_the_lane_and_come_out_as_the_strict_way_reads_them(real_data: Any) -> None:
    import gzip

    path = real_data / "ticks" / "um" / "BTCUSDT-20230404.raw.gz"
    with gzip.open(path, "rb") as file:
        frames = [line.split(b" ", 1)[1].strip() for line in file if b"@bookTicker" in line][:20_000]
    cache, read = QuoteCache(("BTCUSDT",), stale_after_ms=3_000), 0
    for frame in frames:
        quote: Any = decode_frame(frame, 0)
        received_ns = (quote.event_time_ms + 5) * 1_000_000
        if cache.lane.take(Frames.of([frame]), 0, 1, received_ns, False):
            assert repr(cache.quote("BTCUSDT")) == repr(decode_frame(frame, received_ns))
            read += 1
        elif cache.accept_quote(decode_frame(frame, received_ns), 1):  # type: ignore[arg-type]
            cache.follow("BTCUSDT", 1)
    assert read >= len(frames) - 5
    assert cache.quote("BTCUSDT") is not None
    assert not cache.rejected
    assert isinstance(cache.quote("BTCUSDT").bid_price, Decimal)  # type: ignore[union-attr]
