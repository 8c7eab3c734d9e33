"""Events of the user-data stream: golden frames of our own making, round trips, damage, documented shapes."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.orders import Fill, Order, OrderStatus, OrderType, Side, TimeInForce
from labkit.errors import LocalProtocolError, RemoteProtocolError
from labkit.wire.streams import wrap
from labkit.wire.user_data import (
    AccountConfigUpdate,
    AccountUpdate,
    BalanceChange,
    ListenKeyExpired,
    MarginCall,
    MarginCallPosition,
    OrderTradeUpdate,
    PositionChange,
    decode_user_event,
    encode_user_event,
)

ORDER = Order(
    symbol="BTCUSDT",
    order_id=418000123456,
    client_order_id="lab-000017",
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    status=OrderStatus.PARTIALLY_FILLED,
    price=Decimal("91200.00"),
    original_quantity=Decimal("0.500"),
    executed_quantity=Decimal("0.200"),
    average_price=Decimal("91200.00"),
    time_in_force=TimeInForce.GTC,
    update_time_ms=1795375277008,
)
FILL = Fill(
    symbol="BTCUSDT",
    trade_id=6900000321,
    order_id=418000123456,
    client_order_id="lab-000017",
    side=Side.BUY,
    price=Decimal("91200.00"),
    quantity=Decimal("0.200"),
    commission=Decimal("3.64800000"),
    realized_pnl=Decimal("0"),
    maker=True,
    trade_time_ms=1795375277008,
)

GOLDEN = {
    "maker fill of a part": (
        """{"e":"ORDER_TRADE_UPDATE","E":1795375277012,"T":1795375277008,"o":{"s":"BTCUSDT","c":"lab-000017","S":"BUY",
        "o":"LIMIT","f":"GTC","q":"0.500","p":"91200.00","ap":"91200.00","sp":"0","x":"TRADE","X":"PARTIALLY_FILLED",
        "i":418000123456,"l":"0.200","z":"0.200","L":"91200.00","N":"USDT","n":"3.64800000","T":1795375277008,
        "t":6900000321,"b":"27360","a":"0","m":true,"R":false,"wt":"CONTRACT_PRICE","ot":"LIMIT","ps":"BOTH",
        "cp":false,"rp":"0","pP":false,"si":0,"ss":0,"V":"EXPIRE_MAKER","pm":"NONE","gtd":0,"er":"0"}}""",
        OrderTradeUpdate(
            order=ORDER,
            fill=FILL,
            execution_type="TRADE",
            event_time_ms=1795375277012,
            transaction_time_ms=1795375277008,
        ),
    ),
    "new order without a fee and without the keys of 2026": (
        """{"e":"ORDER_TRADE_UPDATE","E":1795375277012,"T":1795375277008,"o":{"s":"BTCUSDT","c":"lab-000017","S":"BUY",
        "o":"LIMIT","f":"GTC","q":"0.500","p":"91200.00","ap":"0","sp":"0","x":"NEW","X":"NEW","i":418000123456,
        "l":"0","z":"0","L":"0","T":1795375277008,"t":0,"b":"0","a":"0","m":false,"R":false,"ps":"BOTH","rp":"0"}}""",
        OrderTradeUpdate(
            order=msgspec.structs.replace(
                ORDER, status=OrderStatus.NEW, executed_quantity=Decimal(0), average_price=Decimal(0)
            ),
            execution_type="NEW",
            event_time_ms=1795375277012,
            transaction_time_ms=1795375277008,
        ),
    ),
    "account after a fill": (
        """{"e":"ACCOUNT_UPDATE","E":1795375277012,"T":1795375277008,"a":{"m":"ORDER",
        "B":[{"a":"USDT","wb":"9996.35200000","cw":"9996.35200000","bc":"0"}],
        "P":[{"s":"BTCUSDT","pa":"0.200","ep":"91200.0","bep":"91218.24","cr":"0","up":"6.92000000","mt":"cross",
        "iw":"0","ps":"BOTH"}]}}""",
        AccountUpdate(
            reason="ORDER",
            balances={"USDT": BalanceChange(Decimal("9996.35200000"), Decimal("9996.35200000"))},
            positions=(
                PositionChange(
                    symbol="BTCUSDT",
                    quantity=Decimal("0.200"),
                    entry_price=Decimal("91200.0"),
                    unrealized_pnl=Decimal("6.92000000"),
                    break_even_price=Decimal("91218.24"),
                ),
            ),
            event_time_ms=1795375277012,
            transaction_time_ms=1795375277008,
        ),
    ),
    "funding payment that names its symbol": (
        """{"e":"ACCOUNT_UPDATE","E":2,"T":1,"a":{"m":"FUNDING_FEE","S":"BTCUSDT",
        "B":[{"a":"USDT","wb":"9991.85200000","cw":"9991.85200000","bc":"-4.50000000"}]}}""",
        AccountUpdate(
            reason="FUNDING_FEE",
            balances={
                "USDT": BalanceChange(Decimal("9991.85200000"), Decimal("9991.85200000"), Decimal("-4.50000000"))
            },
            symbol="BTCUSDT",
            event_time_ms=2,
            transaction_time_ms=1,
        ),
    ),
    "listen key gone": (
        '{"e":"listenKeyExpired","E":1795378880000,"listenKey":"pqia91ma"}',
        ListenKeyExpired("pqia91ma", 1795378880000),
    ),
    "leverage set": (
        '{"e":"ACCOUNT_CONFIG_UPDATE","E":1795375280100,"T":1795375280098,"ac":{"s":"BTCUSDT","l":25}}',
        AccountConfigUpdate("BTCUSDT", 25, 1795375280100),
    ),
    "margin call": (
        """{"e":"MARGIN_CALL","E":1795375280000,"cw":"3.16812045","p":[{"s":"ETHUSDT","ps":"LONG","pa":"1.327",
        "mt":"CROSSED","iw":"0","mp":"3187.17","up":"-116.72","mm":"1.614445"}]}""",
        MarginCall(
            positions=(
                MarginCallPosition(
                    symbol="ETHUSDT",
                    quantity=Decimal("1.327"),
                    margin_type="CROSSED",
                    mark_price=Decimal("3187.17"),
                    unrealized_pnl=Decimal("-116.72"),
                    maintenance_margin=Decimal("1.614445"),
                    position_side="LONG",
                ),
            ),
            cross_wallet_balance=Decimal("3.16812045"),
            event_time_ms=1795375280000,
        ),
    ),
}
golden = pytest.mark.parametrize(("frame", "event"), GOLDEN.values(), ids=GOLDEN.keys())


@golden
def test_a_frame_becomes_its_event(frame: str, event: msgspec.Struct) -> None:
    assert decode_user_event(frame.encode()) == event


@golden
def test_a_frame_wrapped_with_its_listen_key_becomes_the_same_event(frame: str, event: msgspec.Struct) -> None:
    assert decode_user_event(wrap("pqia91ma", frame.encode())) == event


@golden
def test_unknown_keys_are_ignored(frame: str, event: msgspec.Struct) -> None:
    assert decode_user_event(json.dumps(json.loads(frame) | {"new": [None]}).encode()) == event


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(
            '{"e":"TRADE_LITE","E":2,"T":1,"s":"BTCUSDT","q":"0.5","p":"1","m":true,"c":"x","S":"BUY","t":1,"i":2}',
            id="the quick copy of a fill",
        ),
        pytest.param('{"e":"ALGO_UPDATE","E":2,"T":1,"o":{"caid":"x"}}', id="conditional orders"),
        pytest.param('{"e":"ACCOUNT_CONFIG_UPDATE","E":2,"T":1,"ai":{"j":true}}', id="multi-assets mode"),
        pytest.param('{"e":"SOMETHING_NEW"}', id="a kind of the future"),
    ],
)
def test_kinds_labkit_does_not_use_are_none(frame: str) -> None:
    assert decode_user_event(frame.encode()) is None
    assert decode_user_event(wrap("key", frame.encode())) is None


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'{"result":null,"id":1}', id="a control reply"),
        pytest.param(b'{"stream":"key","data":{}}', id="a wrapper around nothing"),
        pytest.param(b'{"stream":"key","data":7}', id="a wrapper around a number"),
        pytest.param(b'{"e":"listenKeyExpired"}', id="a key without its name"),
        pytest.param(b"[" * 200_000, id="nested without end"),
        pytest.param(
            GOLDEN["maker fill of a part"][0].replace('"X":"PARTIALLY_FILLED"', '"X":"HALF_FILLED"').encode(),
            id="an order status labkit does not know",
        ),
        pytest.param(
            GOLDEN["maker fill of a part"][0].replace('"n":"3.64800000"', '"n":"NaN"').encode(),
            id="a commission that is no number",
        ),
        pytest.param(
            GOLDEN["account after a fill"][0].replace('"pa":"0.200"', '"pa":"2e-1"').encode(),
            id="a position with an exponent",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_user_event(frame)


@given(st.binary())
def test_any_bytes_are_decoded_or_refused_and_nothing_else(frame: bytes) -> None:
    with suppress(RemoteProtocolError):
        decode_user_event(frame)


@given(
    st.sampled_from([frame.encode() for frame, _ in GOLDEN.values()]),
    st.integers(0, 700),
    st.integers(0, 8),
    st.binary(max_size=8),
)
def test_any_damage_is_decoded_or_refused_and_nothing_else(
    frame: bytes, position: int, cut: int, inserted: bytes
) -> None:
    with suppress(RemoteProtocolError):
        decode_user_event(frame[:position] + inserted + frame[position + cut :])


# ------------------------------------------------------------------------------------------------------- round trips

amounts = st.decimals(min_value=0, max_value=10**12, places=8)
signed = st.decimals(min_value=-(10**12), max_value=10**12, places=8)
times = st.integers(0, 2**53)
ids = st.integers(0, 2**62)
symbols = st.sampled_from(["BTCUSDT", "币安人生USDT"])

orders = st.builds(
    Order,
    symbol=symbols,
    order_id=ids,
    client_order_id=st.from_regex(r"[.A-Z:/a-z0-9_-]{1,36}", fullmatch=True),
    side=st.sampled_from(Side),
    order_type=st.sampled_from(OrderType),
    status=st.sampled_from(OrderStatus),
    price=amounts,
    original_quantity=amounts,
    executed_quantity=amounts,
    average_price=amounts,
    time_in_force=st.sampled_from(TimeInForce),
    reduce_only=st.booleans(),
    update_time_ms=times,
)


@st.composite
def order_updates(draw: st.DrawFn) -> OrderTradeUpdate:
    order = draw(orders)
    filled = draw(st.booleans())
    fill = Fill(
        symbol=order.symbol,
        trade_id=draw(ids),
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        side=order.side,
        price=draw(amounts),
        quantity=draw(amounts.filter(bool)),
        commission=draw(signed),
        realized_pnl=draw(signed),
        maker=draw(st.booleans()),
        trade_time_ms=order.update_time_ms,
    )
    return OrderTradeUpdate(
        order=order,
        fill=fill if filled else None,
        execution_type=draw(st.sampled_from(["TRADE", "CALCULATED"] if filled else ["NEW", "CANCELED", "EXPIRED"])),
        event_time_ms=draw(times),
        transaction_time_ms=draw(times),
        expiry_reason=draw(st.sampled_from("0123456789")),
    )


account_updates = st.builds(
    AccountUpdate,
    reason=st.sampled_from(["ORDER", "FUNDING_FEE", "DEPOSIT", "INSURANCE_CLEAR"]),
    balances=st.dictionaries(
        st.sampled_from(["USDT", "BNB", "USDC"]), st.builds(BalanceChange, signed, signed, signed), max_size=3
    ),
    positions=st.lists(
        st.builds(
            PositionChange,
            symbol=symbols,
            quantity=signed,
            entry_price=amounts,
            unrealized_pnl=signed,
            margin_type=st.sampled_from(["cross", "isolated"]),
            isolated_wallet=amounts,
            break_even_price=amounts,
            accumulated_realized=signed,
            position_side=st.just("BOTH"),
        ),
        max_size=3,
    ).map(tuple),
    symbol=st.sampled_from(["", "BTCUSDT"]),
    event_time_ms=times,
    transaction_time_ms=times,
)
margin_calls = st.builds(
    MarginCall,
    positions=st.lists(
        st.builds(
            MarginCallPosition,
            symbol=symbols,
            quantity=signed,
            margin_type=st.sampled_from(["CROSSED", "ISOLATED"]),
            isolated_wallet=amounts,
            mark_price=amounts,
            unrealized_pnl=signed,
            maintenance_margin=amounts,
            position_side=st.just("BOTH"),
        ),
        max_size=2,
    ).map(tuple),
    cross_wallet_balance=st.none() | amounts,
    event_time_ms=times,
)
others = st.one_of(
    st.builds(ListenKeyExpired, st.text(st.characters(exclude_categories=["Cs"])), times),
    st.builds(AccountConfigUpdate, symbols, st.integers(1, 150), times),
)


@given(st.one_of(order_updates(), account_updates, margin_calls, others))
def test_an_event_survives_the_wire(
    event: OrderTradeUpdate | AccountUpdate | MarginCall | ListenKeyExpired | AccountConfigUpdate,
) -> None:
    assert decode_user_event(encode_user_event(event)) == event


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "ETHUSDT"},
        {"order_id": 1},
        {"client_order_id": "another"},
        {"side": Side.SELL},
        {"trade_time_ms": 1},
        {"quantity": Decimal(0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_fill_of_another_order_is_not_sent(change: dict[str, object]) -> None:
    update = OrderTradeUpdate(
        order=ORDER,
        fill=msgspec.structs.replace(FILL, **change),
        execution_type="TRADE",
        event_time_ms=1,
        transaction_time_ms=1,
    )
    with pytest.raises(LocalProtocolError):
        encode_user_event(update)


# ---------------------------------------------------------------------------------------------------- outside witness


def json_types(value: object) -> object:
    if isinstance(value, dict):
        return {key: json_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_types(item) for item in value[:1]]
    return type(value).__name__


@pytest.mark.parametrize("name", [name for name in GOLDEN if "without the keys" not in name])
def test_our_frames_have_the_keys_and_types_of_the_protocol(name: str) -> None:
    frame, event = GOLDEN[name]
    ours, theirs = json_types(json.loads(encode_user_event(event))), json_types(json.loads(frame))
    if name == "funding payment that names its symbol":
        assert isinstance(ours, dict)
        assert ours["a"].pop("P") == []
    assert ours == theirs


@pytest.mark.real_data
def test_documented_fills_are_read_in_all_their_variants(real_data: Path) -> None:
    samples = json.loads((real_data / "rest" / "doc-samples.json").read_text())
    for name, fee in {
        "rust/user_data_json/order_update_trade.json": "0.01000000",
        "rust/user_data_json/order_update_calculated.json": "0.06937084",
        "rust/user_data_json/order_update_trade_partial.json": "0.01000000",
        "python/ws_messages/ws_futures_order_update_adl.json": "2.50000000",
        "python/ws_messages/ws_futures_order_update_liquidation.json": "5.00000000",
        "python/ws_messages/ws_futures_order_update_settlement.json": "2.55000000",
    }.items():
        event = decode_user_event(json.dumps(samples[name]).encode())
        assert isinstance(event, OrderTradeUpdate)
        assert event.fill is not None, name
        assert event.fill.commission == Decimal(fee)


@pytest.mark.real_data
def test_an_execution_of_nothing_is_no_fill(real_data: Path) -> None:
    samples = json.loads((real_data / "rest" / "doc-samples.json").read_text())
    for name in (
        "rust/user_data_json/order_update_calculated_pending.json",
        "python/ws_messages/ws_futures_order_update_liquidation_zero_qty.json",
    ):
        event = decode_user_event(json.dumps(samples[name]).encode())
        assert isinstance(event, OrderTradeUpdate)
        assert event.fill is None, name


@pytest.mark.real_data
def test_the_documented_account_update_is_read_with_all_its_sides(real_data: Path) -> None:
    sample = json.loads((real_data / "rest" / "doc-samples.json").read_text())[
        "rust/user_data_json/account_update.json"
    ]
    event = decode_user_event(json.dumps(sample).encode())
    assert isinstance(event, AccountUpdate)
    assert [(position.position_side, position.quantity) for position in event.positions] == [
        ("BOTH", 0),
        ("LONG", 20),
        ("SHORT", -10),
    ]
    ours = json_types(json.loads(encode_user_event(event)))
    assert ours == json_types(sample)
