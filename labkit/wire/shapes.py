"""How a struct of ours is spelt as a JSON object: one table per message, read in both directions.

A `Shape` maps field names to the exchange's keys. Decimals travel as digit strings of the strict grammar
(`wire.numbers`), enums by value, integers and booleans as they are. Unknown keys are ignored when reading;
`constants` are keys labkit's exchange writes but labkit's client never reads. Used by `wire.rest_market`,
`wire.rest_account` and `wire.user_data`; the market streams, where speed matters, have structs of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from labkit.errors import RemoteProtocolError
from labkit.wire.numbers import Int64, NumberText, format_decimal

T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")

# A text that is not UTF-8 or nests too deep is as unreadable as one that is not JSON.
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)

_WIRE_TYPES: dict[Any, Any] = {Decimal: NumberText, int: Int64}

encode_json = msgspec.json.Encoder().encode


def decode_json(decoder: msgspec.json.Decoder[V], text: bytes | str) -> V:
    """`text` decoded; raises `RemoteProtocolError` with the decoder's own words, and nothing else."""
    try:
        return decoder.decode(text)
    except UNREADABLE as exc:
        raise RemoteProtocolError(f"unreadable message: {exc}") from exc


class Shape(Generic[T]):
    """One struct of ours and its JSON object.

    Args:
        cls: the struct.
        keys: field name -> JSON key. Fields left out do not travel; they take their default or are `given`.
        constants: further keys to write.
        optional: fields that may be absent or null in the JSON although `cls` requires them, with their value then.
    """

    def __init__(
        self,
        cls: type[T],
        keys: Mapping[str, str],
        *,
        constants: Mapping[str, object] | None = None,
        optional: Mapping[str, object] | None = None,
    ) -> None:
        self._cls = cls
        self._keys = dict(keys)
        self._constants = dict(constants or {})
        self._absent = dict(optional or {})
        hints = get_type_hints(cls)
        self._decimals = {field for field in keys if hints[field] is Decimal}
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for field in msgspec.structs.fields(cls):
            if field.name not in keys:
                continue
            wire_type = _WIRE_TYPES.get(hints[field.name], hints[field.name])
            if field.name in self._absent or not field.required:
                self._absent.setdefault(field.name, field.default)
                fields.append((field.name, wire_type | None, None))
            else:
                fields.append((field.name, wire_type))
        self.wire_type: type[msgspec.Struct] = msgspec.defstruct(
            f"{cls.__name__}Frame", fields, kw_only=True, frozen=True, rename=self._keys
        )
        """The object as msgspec reads it, for nesting in other wire structs."""
        self._decoder = msgspec.json.Decoder[Any](self.wire_type)
        self._list_decoder = msgspec.json.Decoder[Any](list[self.wire_type])  # type: ignore[name-defined]

    def decode(self, body: bytes | str, **given: object) -> T:
        """The struct in one JSON object. Raises `RemoteProtocolError`."""
        return self.read(decode_json(self._decoder, body), **given)

    def decode_list(self, body: bytes | str, **given: object) -> tuple[T, ...]:
        """The structs in a JSON array. Raises `RemoteProtocolError`."""
        return tuple(self.read(frame, **given) for frame in decode_json(self._list_decoder, body))

    def decode_some(self, body: bytes, **given: object) -> tuple[T, ...]:
        """One object or an array of them: the exchange answers either, depending on whether a symbol was named."""
        if body.lstrip()[:1] == b"[":
            return self.decode_list(body, **given)
        return (self.decode(body, **given),)

    def read(self, frame: msgspec.Struct, **given: object) -> T:
        """The struct of an object that is already decoded as `wire_type`."""
        values: dict[str, Any] = dict(given)
        for name in self._keys:
            value = getattr(frame, name)
            if value is None and name in self._absent:
                value = self._absent[name]
            elif name in self._decimals:
                value = Decimal(value)
            values[name] = value
        return self._cls(**values)

    def to_object(self, value: T, **more: object) -> dict[str, object]:
        """The JSON object of `value` as builtins: its keys, the constants, and `more`."""
        written: dict[str, object] = {}
        for name, key in self._keys.items():
            item = getattr(value, name)
            written[key] = format_decimal(item) if name in self._decimals else item
        return {**written, **self._constants, **more}

    def encode(self, value: T) -> bytes:
        return encode_json(self.to_object(value))

    def encode_some(self, values: T | Iterable[T]) -> bytes:
        """One object for one struct, an array for several."""
        if isinstance(values, msgspec.Struct):
            return encode_json(self.to_object(values))
        return encode_json([self.to_object(value) for value in values])
