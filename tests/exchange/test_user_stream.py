"""The user stream comes back by itself, and tells its owner every time it may have missed something."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from labkit.config import ClientConfig
from labkit.errors import ExchangeUnavailable
from labkit.exchange.user_stream import LASTING_CONNECTION_MS, LONGEST_BACKOFF_MS, UserStream
from labkit.wire import rest_account, user_data
from labkit.wire.transport import ConnectionLost, HttpResponse, NotSent

KEY_PATH = "/fapi/v1/listenKey"


class ScriptedConnection:
    def __init__(self) -> None:
        self.frames: deque[bytes | Exception] = deque()
        self.closed = False
        self._arrived = asyncio.Event()

    def say(self, frame: bytes | Exception) -> None:
        self.frames.append(frame)
        self._arrived.set()

    async def receive(self) -> bytes:
        while not self.frames:
            self._arrived.clear()
            await self._arrived.wait()
        frame = self.frames.popleft()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def send(self, text: str) -> None:
        raise AssertionError("nothing is ever sent on the user stream")

    async def close(self) -> None:
        self.closed = True


class ScriptedStreams:
    """Opens connections a test can speak through; `refusals` are raised first."""

    def __init__(self, lab) -> None:
        self.lab = lab
        self.opened: list[tuple[int, str]] = []
        self.connections: list[ScriptedConnection] = []
        self.refusals: deque[Exception] = deque()

    async def open(self, path_and_query: str) -> ScriptedConnection:
        self.opened.append((self.lab.now(), path_and_query))
        if self.refusals:
            raise self.refusals.popleft()
        self.connections.append(ScriptedConnection())
        return self.connections[-1]


class Story:
    """One user stream under test with everything it told."""

    def __init__(self, lab) -> None:
        self.lab = lab
        self.streams = ScriptedStreams(lab)
        self.told: list[object] = []
        self.on_gap: Callable[[str], object] = lambda cause: self.told.append(f"gap: {cause}")
        keys = (f"canary-key-{number}" for number in range(1, 1_000))
        lab.exchange.on("POST", KEY_PATH, lambda _: listen_key(next(keys)))
        lab.exchange.on("PUT", KEY_PATH, lambda _: listen_key(self.streams.opened[-1][1].partition("=")[2]))

    def make(self, **options: object) -> UserStream:
        self.stream = UserStream(
            self.lab.client(),
            self.streams,
            self.lab.clock,
            ClientConfig(),
            on_event=self.told.append,
            on_gap=lambda cause: self.on_gap(cause),
            **options,
        )
        return self.stream

    def run(self, script: Callable[[], object], **options: object) -> None:
        async def main() -> None:
            running = asyncio.create_task(self.make(**options).run())
            await self.lab.sleep(1)
            await script()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        self.lab.run(main())


def listen_key(key: str) -> HttpResponse:
    return HttpResponse(status=200, body=rest_account.encode_listen_key(rest_account.ListenKey(key)))


def leverage_event(leverage: int) -> bytes:
    return user_data.encode_account_config_update(user_data.AccountConfigUpdate("BTCUSDT", leverage, 1))


@pytest.fixture
def story(lab) -> Story:
    return Story(lab)


def test_the_owner_is_told_to_reconcile_before_the_first_event(story) -> None:
    async def script() -> None:
        (connection,) = story.streams.connections
        connection.say(leverage_event(5))
        await story.lab.sleep(1)

    story.run(script)
    gap, event = story.told
    assert gap == "gap: first connection"
    assert isinstance(event, user_data.AccountConfigUpdate)
    assert story.streams.opened == [(0, "/private/ws?listenKey=canary-key-1")]


def test_events_that_arrive_while_the_owner_reconciles_wait_for_it(story) -> None:
    async def reconcile(cause: str) -> None:
        story.streams.connections[-1].say(leverage_event(5))
        await story.lab.sleep(3_000)
        story.told.append("reconciled")

    story.on_gap = reconcile
    story.run(lambda: story.lab.sleep(4_000))
    assert story.told[0] == "reconciled"
    assert len(story.told) == 2


def test_a_cut_connection_is_replaced_with_its_key_made_anew_and_the_gap_told(story) -> None:
    async def script() -> None:
        story.streams.connections[0].say(ConnectionLost("cut by the other side"))
        await story.lab.sleep(1_000)
        assert story.stream.status().state == "connected"

    story.run(script)
    assert story.told == ["gap: first connection", "gap: ConnectionLost: cut by the other side"]
    assert [path for _, path in story.streams.opened] == [
        "/private/ws?listenKey=canary-key-1",
        "/private/ws?listenKey=canary-key-2",
    ]
    assert story.streams.connections[0].closed
    assert story.stream.status().reconnects == 1


def test_an_expired_key_is_replaced_although_the_socket_stays_open(story) -> None:
    async def script() -> None:
        expired = user_data.ListenKeyExpired("canary-key-1", 1)
        story.streams.connections[0].say(user_data.encode_listen_key_expired(expired))
        await story.lab.sleep(1_000)

    story.run(script)
    assert story.told[-1] == "gap: listen key expired"
    assert len(story.streams.connections) == 2


def test_the_expiry_of_another_key_changes_nothing(story) -> None:
    async def script() -> None:
        expired = user_data.ListenKeyExpired("a-key-of-yesterday", 1)
        story.streams.connections[0].say(user_data.encode_listen_key_expired(expired))
        await story.lab.sleep(60_000)

    story.run(script)
    assert len(story.streams.connections) == 1


def test_the_key_is_renewed_every_twenty_minutes_and_never_deleted(story) -> None:
    story.run(lambda: story.lab.sleep(3_600_000))
    assert story.lab.exchange.times("PUT", KEY_PATH) == [1_200_000, 2_400_000, 3_600_000]
    assert story.lab.exchange.times("DELETE", KEY_PATH) == []
    assert len(story.streams.connections) == 1


def test_a_key_that_is_gone_at_renewal_is_made_anew(story) -> None:
    gone = HttpResponse(status=400, body=msgspec.json.encode({"code": -1125, "msg": "This listenKey does not exist."}))
    story.lab.exchange.on("PUT", KEY_PATH, gone)
    story.run(lambda: story.lab.sleep(1_300_000))
    assert story.told[-1] == "gap: listen key is gone"
    assert len(story.streams.connections) == 2


def test_a_renewal_that_fails_for_a_passing_reason_is_tried_again_within_a_minute(story) -> None:
    story.lab.exchange.on("PUT", KEY_PATH, ConnectionLost("reset"), listen_key("canary-key-1"))
    story.run(lambda: story.lab.sleep(1_300_000))
    assert story.lab.exchange.times("PUT", KEY_PATH) == [1_200_000, 1_260_000]
    assert len(story.streams.connections) == 1


def test_a_frame_nobody_can_read_is_counted_and_treated_as_a_gap(story) -> None:
    async def script() -> None:
        connection = story.streams.connections[0]
        connection.say(b'{"e":"ORDER_TRADE_UPDATE","o":')
        connection.say(leverage_event(5))
        await story.lab.sleep(1)

    story.run(script)
    assert story.told[1] == "gap: a frame could not be read"
    assert isinstance(story.told[2], user_data.AccountConfigUpdate)
    assert story.stream.status().rejected == 1
    assert len(story.streams.connections) == 1


def test_kinds_labkit_does_not_use_are_passed_over(story) -> None:
    async def script() -> None:
        story.streams.connections[0].say(b'{"e":"STRATEGY_UPDATE","E":1}')
        await story.lab.sleep(1)

    story.run(script)
    assert story.told == ["gap: first connection"]
    assert (story.stream.status().frames, story.stream.status().rejected) == (1, 0)


def test_a_reconciliation_that_fails_is_followed_by_another_connection_and_another_try(story) -> None:
    failures = deque([ExchangeUnavailable("away"), None])

    async def reconcile(cause: str) -> None:
        story.told.append(cause)
        if (failure := failures.popleft()) is not None:
            raise failure

    story.on_gap = reconcile
    story.run(lambda: story.lab.sleep(1_000))
    assert len(story.told) == 2
    assert story.streams.connections[0].closed


def test_back_off_grows_to_its_cap_and_starts_anew_after_a_lasting_connection(story) -> None:
    story.streams.refusals.extend(NotSent("refused") for _ in range(40))

    async def script() -> None:
        while not story.streams.connections:
            await story.lab.sleep(1_000)
        await story.lab.sleep(LASTING_CONNECTION_MS)
        story.streams.connections[0].say(ConnectionLost("cut"))
        await story.lab.sleep(1_000)

    story.run(script)
    moments = [moment for moment, _ in story.streams.opened]
    waits = [after - before for before, after in pairwise(moments)]
    assert max(waits[:3]) <= 2_000
    assert max(waits[10:39]) > LONGEST_BACKOFF_MS // 2
    assert max(waits[:40]) <= LONGEST_BACKOFF_MS
    assert waits[-1] - LASTING_CONNECTION_MS <= 1_250


def test_the_same_seed_backs_off_the_same_way_and_another_one_does_not(lab) -> None:
    def moments(seed: int) -> list[int]:
        story = Story(type(lab)())
        story.streams.refusals.extend(NotSent("refused") for _ in range(10))
        story.run(lambda: story.lab.sleep(60_000), seed=seed)
        return [moment for moment, _ in story.streams.opened]

    assert moments(1) == moments(1)
    assert moments(1) != moments(2)


def test_no_listen_key_is_shown_when_a_connection_fails(story) -> None:
    story.streams.refusals.append(NotSent("cannot open /private/ws?listenKey=canary-key-1"))

    async def script() -> None:
        assert "canary" not in story.stream.status().cause
        assert "***" in story.stream.status().cause
        await story.lab.sleep(1_000)

    story.run(script)
    assert "canary" not in str(story.told)


def test_a_cancelled_stream_has_closed_its_connection_and_leaves_no_task(story) -> None:
    async def script() -> None:
        await story.lab.sleep(10)

    async def main() -> None:
        running = asyncio.create_task(story.make().run())
        await story.lab.sleep(10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert asyncio.all_tasks() == {asyncio.current_task()}

    story.lab.run(main())
    assert story.streams.connections[0].closed
    assert story.stream.status().state == "stopped"


def test_an_error_of_the_owner_is_not_swallowed(story) -> None:
    def broken(cause: str) -> None:
        raise ZeroDivisionError(cause)

    story.on_gap = broken

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await story.make().run()

    story.lab.run(main())
