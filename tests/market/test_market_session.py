"""The plan of connections, told and asked by hand: no loop, no socket, no clock."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.config import MonitorConfig
from labkit.market.session import Action, Close, Health, MarketSession, Open, Send
from labkit.wire.streams import ControlReply

BOOK = "btcusdt@bookTicker"
MARK = "btcusdt@markPrice@1s"
HOUR_MS = 3_600_000


def session(**settings: float) -> MarketSession:
    return MarketSession(MonitorConfig(**settings), seed=1)  # type: ignore[arg-type]


def opens(actions: list[Action]) -> list[Open]:
    return [action for action in actions if isinstance(action, Open)]


def closed(actions: list[Action]) -> list[int]:
    return [action.connection for action in actions if isinstance(action, Close)]


def sent(actions: list[Action]) -> list[dict[str, object]]:
    return [json.loads(action.text) for action in actions if isinstance(action, Send)]


def health(actions: list[Action]) -> list[tuple[str, bool]]:
    return [(action.slot, action.healthy) for action in actions if isinstance(action, Health)]


def live(**settings: float) -> MarketSession:
    """One public connection, number 1, that delivered its first quote at 100 ms."""
    plan = session(**settings)
    plan.add_streams([BOOK], 0)
    plan.opened(1, 50)
    plan.data(1, BOOK, 100)
    return plan


def test_each_route_gets_a_connection_of_its_own() -> None:
    actions = session().add_streams([BOOK, MARK, "btcusdt@kline_1m"], 0)
    assert [action.path_and_query for action in opens(actions)] == [
        "/public/stream?streams=btcusdt@bookTicker",
        "/market/stream?streams=btcusdt@markPrice@1s/btcusdt@kline_1m",
    ]


def test_a_symbol_beyond_ascii_travels_percent_encoded() -> None:
    (opening,) = opens(session().add_streams(["币安usdt@bookTicker"], 0))
    assert opening.path_and_query == "/public/stream?streams=%E5%B8%81%E5%AE%89usdt@bookTicker"


def test_a_full_connection_is_followed_by_another() -> None:
    plan = session(streams_per_connection=2)
    actions = plan.add_streams([f"s{number}usdt@bookTicker" for number in range(5)], 0)
    assert [action.slot for action in opens(actions)] == ["public", "public-2", "public-3"]


TRADES = [f"s{number}usdt@aggTrade" for number in range(5)]


def test_a_connection_whose_own_streams_may_be_quiet_carries_one_that_never_is() -> None:
    plan = session(streams_per_connection=3)
    actions = opens(plan.add_streams([MARK, *TRADES], 0))
    carried = [action.path_and_query.partition("=")[2].split("/") for action in actions]
    assert carried == [[MARK, *TRADES[:2]], [*TRADES[2:4], MARK], [TRADES[4], MARK]]
    for opening in actions:
        plan.opened(opening.connection, 50)
        plan.data(opening.connection, MARK, 100)
    told: list[Action] = []
    for at_ms in range(1_000, 60_000, 1_000):
        told += [action for opening in actions for action in plan.data(opening.connection, MARK, at_ms)]
        told += plan.due(at_ms)
    assert told == []


def test_a_canary_leaves_with_its_stream_and_another_takes_its_place() -> None:
    other = "ethusdt@markPrice@1s"
    plan = session(streams_per_connection=2)
    actions = opens(plan.add_streams([MARK, other, *TRADES[:2]], 0))
    assert [a.path_and_query.partition("=")[2].split("/") for a in actions] == [
        [MARK, other], [TRADES[0], MARK], [TRADES[1], MARK]
    ]  # fmt: skip
    for opening in actions:
        plan.opened(opening.connection, 50)
        plan.data(opening.connection, MARK, 100)
    messages = [(m["method"], m["params"]) for m in sent(plan.remove_streams([MARK], 5_000))]
    assert messages == [("UNSUBSCRIBE", [MARK])] + [("UNSUBSCRIBE", [MARK]), ("SUBSCRIBE", [other])] * 2
    assert closed(plan.remove_streams(TRADES[:1], 6_000)) == [actions[1].connection]


@given(steps=st.lists(st.tuples(st.booleans(), st.sampled_from(["aggTrade", "markPrice@1s"]), st.integers(0, 9))))
def test_no_connection_carries_more_than_the_limit_and_none_is_left_without_a_voice(
    steps: list[tuple[bool, str, int]],
) -> None:
    plan, wanted, now_ms = session(streams_per_connection=3), set(), 0
    plan.add_streams([MARK], 0)
    for adding, kind, number in steps:
        stream, now_ms = f"s{number}usdt@{kind}", now_ms + 1_000
        (plan.add_streams if adding else plan.remove_streams)([stream], now_ms)
        wanted = wanted | {stream} if adding else wanted - {stream}
        carried = [set(slot.streams) for slot in plan._slots.values()]
        assert all(len(streams) <= 3 and any("markPrice" in name for name in streams) for streams in carried)
        assert set().union(*carried) == wanted | {MARK}


def test_opening_proves_nothing_and_data_makes_the_slot_healthy() -> None:
    plan = session()
    plan.add_streams([BOOK], 0)
    assert health(plan.opened(1, 50)) == []
    assert plan.status(60)[0].state == "waiting for data"
    assert health(plan.data(1, BOOK, 100)) == [("public", True)]
    assert plan.status(100)[0].state == "live"


def test_what_does_not_fit_into_the_address_is_subscribed_in_batches() -> None:
    streams = [f"s{number}usdt@bookTicker" for number in range(300)]
    plan = session()
    (opening,) = opens(plan.add_streams(streams, 0))
    assert len(opening.path_and_query) < 2_000
    messages = sent(plan.opened(1, 50))
    asked = [name for message in messages for name in message["params"]]  # type: ignore[attr-defined]
    named = opening.path_and_query.partition("=")[2].split("/")
    assert sorted(named + asked) == sorted(streams)


@settings(max_examples=50)
@given(steps=st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.integers(0, 30)), max_size=120))
def test_no_second_sees_more_than_ten_control_messages(steps: list[tuple[int, bool, int]]) -> None:
    plan = live()
    now_ms = 200
    times: list[int] = []
    for wait_ms, adding, number in steps:
        now_ms += wait_ms
        stream = f"s{number}usdt@bookTicker"
        actions = plan.add_streams([stream], now_ms) if adding else plan.remove_streams([stream], now_ms)
        actions += plan.data(1, BOOK, now_ms)
        times += [now_ms] * len(sent(actions))
    assert all(later - earlier >= 1_000 for earlier, later in zip(times, times[10:], strict=False))


def test_a_handshake_that_hangs_is_given_up_after_the_time_limit() -> None:
    plan = session()
    plan.add_streams([BOOK], 0)
    assert closed(plan.due(4_999)) == []
    actions = plan.due(5_000)
    assert closed(actions) == [1]
    assert health(actions) == [("public", False)]


def test_a_lost_connection_is_opened_again_within_the_first_back_off() -> None:
    plan = live()
    actions = plan.lost(1, "reset", 1_000)
    assert health(actions) == [("public", False)]
    retry_ms = plan.next_deadline_ms()
    assert retry_ms is not None
    assert 1_000 <= retry_ms <= 1_250
    assert [opening.connection for opening in opens(actions + plan.due(retry_ms))] == [2]


def test_an_exchange_that_says_no_is_left_alone_for_the_whole_back_off_cap() -> None:
    plan = session()
    plan.add_streams([BOOK], 0)
    plan.lost(1, "the handshake was answered with HTTP 451", 100, refused=True)
    assert opens(plan.due(30_099)) == []
    assert [opening.connection for opening in opens(plan.due(30_100))] == [2]


def test_pings_and_replies_do_not_hide_silence() -> None:
    plan = live()
    plan.answered(1, ControlReply(id=1), 2_400)
    assert plan.next_deadline_ms() == 2_500
    assert health(plan.due(2_499)) == []
    assert health(plan.due(2_500)) == [("public", False)]


def test_a_silent_connection_is_kept_until_another_one_speaks() -> None:
    plan = live()
    plan.due(3_100)
    actions = plan.due(3_400)
    assert [opening.connection for opening in opens(actions)] == [2]
    assert closed(actions) == []
    plan.opened(2, 3_500)
    assert health(plan.data(2, BOOK, 3_600)) == [("public", True)]
    assert plan.reconnects == 1
    assert closed(plan.due(4_600)) == [1]


def test_a_silent_connection_that_speaks_again_first_keeps_its_place() -> None:
    plan = live()
    plan.due(3_100)
    plan.due(3_400)
    actions = plan.data(1, BOOK, 3_450)
    assert closed(actions) == [2]
    assert health(actions) == [("public", True)]
    assert plan.reconnects == 0


def test_a_truly_quiet_market_is_not_reconnected_in_a_hot_loop() -> None:
    plan = live()
    attempts = simulate(plan, until_ms=600_000, opening_works=True)
    assert len(attempts) <= 40


def test_the_back_off_forgets_failures_only_after_sustained_data() -> None:
    plan = live()
    now_ms, waits = 200, []
    number = 1
    for _ in range(8):
        plan.lost(number, "flap", now_ms)
        retry_ms = plan.next_deadline_ms()
        assert retry_ms is not None
        waits.append(retry_ms - now_ms)
        number += 1
        plan.due(retry_ms)
        plan.opened(number, retry_ms + 10)
        plan.data(number, BOOK, retry_ms + 20)
        now_ms = retry_ms + 1_020
    assert max(waits) > 5_000
    for at_ms in range(now_ms, now_ms + 31_000, 1_000):
        plan.data(number, BOOK, at_ms)
        plan.due(at_ms)
    plan.lost(number, "later", now_ms + 31_000)
    retry_ms = plan.next_deadline_ms()
    assert retry_ms is not None
    assert retry_ms - (now_ms + 31_000) <= 250


@pytest.mark.parametrize("seed", range(30))
def test_an_exchange_that_is_down_sees_at_most_twelve_attempts_in_any_minute(seed: int) -> None:
    plan = MarketSession(MonitorConfig(), seed=seed)
    first = plan.add_streams([BOOK], 0)
    times = [0, *simulate(plan, until_ms=600_000, opening_works=False, opening=opens(first))]
    assert len(times) >= 10
    assert all(later - earlier >= 60_000 for earlier, later in zip(times, times[12:], strict=False))


def test_back_off_differs_between_seeds() -> None:
    waits = set()
    for seed in range(20):
        plan = MarketSession(MonitorConfig(), seed=seed)
        plan.add_streams([BOOK], 0)
        plan.lost(1, "refused", 0)
        waits.add(plan.next_deadline_ms())
    assert len(waits) > 10


def test_before_the_day_is_over_a_new_connection_proves_itself_and_the_old_one_is_read_out() -> None:
    plan = live()
    keep_alive(plan, 1, 100, 23 * HOUR_MS + 50)
    (opening,) = opens(plan.due(23 * HOUR_MS + 50))
    assert plan.status(23 * HOUR_MS + 50)[0].state == "rotating"
    now_ms = 23 * HOUR_MS + 100
    assert closed(plan.opened(opening.connection, now_ms)) == []
    actions = plan.data(opening.connection, BOOK, now_ms + 10)
    assert closed(actions) == []
    assert closed(plan.due(now_ms + 1_009)) == []
    assert closed(plan.due(now_ms + 1_010)) == [1]
    assert plan.reconnects == 0
    assert plan.status(now_ms + 1_010)[0].rotations == 1


def test_a_successor_that_delivers_nothing_never_displaces_a_living_connection() -> None:
    plan = live()
    keep_alive(plan, 1, 100, 23 * HOUR_MS + 50)
    (opening,) = opens(plan.due(23 * HOUR_MS + 50))
    plan.opened(opening.connection, 23 * HOUR_MS + 60)
    seen: list[Action] = []
    for at_ms in range(23 * HOUR_MS + 100, 23 * HOUR_MS + 6_000, 100):
        seen += plan.data(1, BOOK, at_ms) + plan.due(at_ms)
    assert opening.connection in closed(seen)
    assert 1 not in closed(seen)
    assert health(seen) == []


def test_two_connections_never_rotate_within_ten_seconds() -> None:
    plan = session()
    plan.add_streams([BOOK, MARK], 0)
    for number, stream in ((1, BOOK), (2, MARK)):
        plan.opened(number, 50)
        plan.data(number, stream, 100)
    speaking = {1: BOOK, 2: MARK}
    times = []
    for at_ms in range(23 * HOUR_MS, 23 * HOUR_MS + 20_000, 100):
        actions = [action for number, stream in speaking.items() for action in plan.data(number, stream, at_ms)]
        for opening in opens(actions + plan.due(at_ms)):
            times.append(at_ms)
            plan.opened(opening.connection, at_ms)
            speaking[opening.connection] = BOOK if opening.slot == "public" else MARK
    first, second = times
    assert second - first >= 10_000


def test_connections_opened_together_are_not_rotated_together() -> None:
    firsts = set()
    for seed in range(20):
        plan = MarketSession(MonitorConfig(), seed=seed)
        plan.add_streams([BOOK], 0)
        plan.opened(1, 0)
        plan.data(1, BOOK, 22 * HOUR_MS)
        at_ms = 22 * HOUR_MS
        while not opens(plan.due(at_ms)):
            at_ms += 1_000
            plan.data(1, BOOK, at_ms)
        firsts.add(at_ms)
        assert 22.75 * HOUR_MS <= at_ms <= 23 * HOUR_MS
    assert len(firsts) > 15


def test_an_announced_end_is_answered_with_a_successor_at_once_in_every_place_that_is_told() -> None:
    plan = session()
    plan.add_streams([BOOK, MARK], 0)
    for number, stream in ((1, BOOK), (2, MARK)):
        plan.opened(number, 50)
        plan.data(number, stream, 100)
    (first,), (second,) = opens(plan.leaving(1, 1_000)), opens(plan.leaving(2, 1_000))
    assert (first.slot, second.slot) == ("public", "market")
    plan.opened(first.connection, 1_050)
    actions = plan.data(first.connection, BOOK, 1_100) + plan.due(2_100)
    assert closed(actions) == [1]
    assert health(actions) == []
    assert plan.reconnects == 0


def test_an_exchange_that_announces_the_end_of_every_successor_too_is_not_followed_in_a_circle() -> None:
    plan = live()
    times, speaking = [], 1
    for at_ms in range(1_000, 31_000, 100):
        actions = plan.leaving(speaking, at_ms) + plan.data(speaking, BOOK, at_ms) + plan.due(at_ms)
        for opening in opens(actions):
            times.append(at_ms)
            speaking = opening.connection
            plan.opened(speaking, at_ms)
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [10_000, 10_000]


def test_one_silent_symbol_is_subscribed_again_at_growing_intervals() -> None:
    plan = session()
    plan.add_streams([BOOK, "ethusdt@bookTicker"], 0)
    plan.opened(1, 0)
    times = []
    for at_ms in range(0, 120_000, 500):
        actions = plan.data(1, BOOK, at_ms) + plan.due(at_ms)
        times += [at_ms for message in sent(actions) if message["params"] == ["ethusdt@bookTicker"]]
        assert opens(actions) == []
    assert times == [3_000, 9_000, 21_000, 45_000, 93_000]


def test_an_empty_slot_is_closed() -> None:
    plan = live()
    assert closed(plan.remove_streams([BOOK], 200)) == [1]
    assert plan.status(200) == ()
    assert plan.next_deadline_ms() is None


def test_a_refused_subscription_is_shown_with_its_words() -> None:
    plan = live()
    plan.add_streams(["ethusdt@bookTicker"], 200)
    plan.answered(1, ControlReply(id=1, error_code=2, error_message="invalid stream"), 210)
    assert "invalid stream" in plan.status(220)[0].cause


def test_news_of_a_connection_nobody_knows_changes_nothing() -> None:
    plan = live()
    assert plan.opened(99, 200) == plan.lost(99, "?", 200) == plan.data(99, BOOK, 200) == []
    assert plan.answered(99, ControlReply(id=1), 200) == []


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    steps=st.lists(
        st.tuples(st.sampled_from(["open", "lose", "data", "wait", "add", "remove", "leave"]), st.integers(0, 9_000)),
        max_size=60,
    ),
)
def test_whatever_happens_each_deadline_makes_progress_and_at_most_three_connections_exist(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    plan = MarketSession(MonitorConfig(rotate_after_hours=0.005), seed=seed)
    alive: set[int] = set()
    now_ms = 0

    def note(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Open):
                alive.add(action.connection)
            elif isinstance(action, Close):
                alive.discard(action.connection)
            elif isinstance(action, Send):
                assert action.connection in alive

    note(plan.add_streams([BOOK], now_ms))
    for what, number in steps:
        chosen = sorted(alive)[number % len(alive)] if alive else 0
        if what == "open":
            note(plan.opened(chosen, now_ms))
        elif what == "lose":
            alive.discard(chosen)
            note(plan.lost(chosen, "lost", now_ms))
        elif what == "leave":
            note(plan.leaving(chosen, now_ms))
        elif what == "data":
            note(plan.data(chosen, BOOK, now_ms))
        elif what == "add":
            note(plan.add_streams([f"s{number % 5}usdt@bookTicker"], now_ms))
        elif what == "remove":
            note(plan.remove_streams([f"s{number % 5}usdt@bookTicker"], now_ms))
        else:
            now_ms += number
        note(plan.due(now_ms))
        deadline_ms = plan.next_deadline_ms()
        assert deadline_ms is not None
        assert deadline_ms > now_ms
        # Current, successor, and those that are read out for a last second.
        assert len(alive) <= 2 + 4
    note(plan.shut_down())
    assert alive == set()


def keep_alive(plan: MarketSession, number: int, from_ms: int, to_ms: int) -> None:
    for at_ms in range(from_ms, to_ms, 2_900):
        plan.data(number, BOOK, at_ms)
    plan.data(number, BOOK, to_ms)


def simulate(
    plan: MarketSession, *, until_ms: int, opening_works: bool, opening: list[Open] | None = None
) -> list[int]:
    """Follow the deadlines with an exchange that refuses, or opens and stays silent; the times of all attempts."""
    times: list[int] = []
    now_ms = 0
    waiting = list(opening or [])
    while now_ms < until_ms:
        for attempt in waiting:
            if opening_works:
                plan.opened(attempt.connection, now_ms)
            else:
                plan.lost(attempt.connection, "refused", now_ms)
        deadline_ms = plan.next_deadline_ms()
        assert deadline_ms is not None
        now_ms = max(now_ms, deadline_ms)
        waiting = opens(plan.due(now_ms))
        times += [now_ms] * len(waiting)
    return times
