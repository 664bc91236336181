"""Values as bytes: compact UTF-8 JSON, or MessagePack.

The first byte of a payload tells which of the two it is: JSON begins with `{`, MessagePack with a
map (0x80 to 0x8f, 0xde, 0xdf).
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, TypeVar

import msgspec

from streamtag.errors import FeedError

T = TypeVar("T")
Encoding = Literal["json", "msgpack"]


class FewMillionths(float):
    """One to nine millionths, which scores have often.

    JSON has them without an exponent, as all numbers (`_without_exponents`).
    """


FEW_MILLIONTHS = tuple(FewMillionths(n / 1e6) for n in range(10))
"""By their number."""
_WITHOUT_EXPONENT = {n / 1e6: msgspec.Raw(b"0.00000%d" % n) for n in range(1, 10)}
_JSON = msgspec.json.Encoder(enc_hook=_WITHOUT_EXPONENT.__getitem__)
_TO_JSON, _TO_LINES = _JSON.encode, _JSON.encode_lines
_TO_MSGPACK = msgspec.msgpack.Encoder(enc_hook=float).encode


def encode(value: Any, encoding: Encoding = "json") -> bytes:
    """A message, or any other value of plain types, as bytes.

    Fractions are written as they are: round them to the millionth where they are computed.
    """
    try:
        if encoding == "msgpack":
            return _TO_MSGPACK(value)
        body = _TO_JSON(value)
    except UnicodeEncodeError:  # names of files need not be valid Unicode
        return encode(_valid_text(msgspec.to_builtins(value, enc_hook=float)), encoding)
    return _without_exponents(body)


def encode_all(values: Sequence[Any], encoding: Encoding = "json") -> list[bytes]:
    """`encode` of each value, twice as fast."""
    if encoding == "msgpack":
        return [encode(value, encoding) for value in values]
    try:
        lines = _TO_LINES(values)
    except UnicodeEncodeError:
        return [encode(value) for value in values]
    bodies = lines.split(b"\n")[:-1]
    return [_without_exponents(body) for body in bodies] if b"e-6" in lines else bodies


def decode(payload: bytes, kind: type[T]) -> T:
    """A value of type `kind` from its bytes, in either encoding; every field is checked.

    Raises:
        FeedError: the payload is damaged, or a field is missing or of a wrong type.
    """
    try:
        return _decoder(kind, is_msgpack(payload)).decode(payload)  # type: ignore[arg-type, no-any-return]
    except msgspec.ValidationError as error:
        text = str(error)  # such as: Expected `int`, got `str` - at `$.seq`
        got = "expected 64 bits, got " if "out of range" in text else ""
        raise FeedError(got + text[:1].lower() + text[1:]) from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested too deep
        raise FeedError(f"expected a JSON object, got {payload[:60]!r}: {error}") from None


def is_msgpack(payload: bytes) -> bool:
    """Whether a payload is MessagePack, by its first byte."""
    return payload[:1] in (b"\xde", b"\xdf") or b"\x80" <= payload[:1] <= b"\x8f"


@cache
def _decoder(kind: Any, packed: bool) -> Any:
    return msgspec.msgpack.Decoder(kind) if packed else msgspec.json.Decoder(kind)


def _valid_text(value: Any) -> Any:
    """The same value with `?` for each character that UTF-8 cannot encode."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_valid_text(key): _valid_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_valid_text(item) for item in value]
    return value


def _without_exponents(body: bytes) -> bytes:
    """Writes `5e-6`, as msgspec encodes a few millionths, as `0.000005`; text is left alone.

    The contract's golden bytes have no exponents.
    """
    pieces = body.split(b"e-6")
    if len(pieces) == 1:
        return body
    plain = body.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in body else body
    written: list[bytes] = []
    in_text = False
    for i, bare in enumerate(plain.split(b"e-6")[:-1]):
        piece = pieces[i]
        in_text ^= bare.count(b'"') % 2 == 1
        is_number = piece[-2:-1] in b"[,:-" and pieces[i + 1][:1] in b",]}"
        if is_number and not in_text:
            written += (piece[:-1], b"0.00000", piece[-1:])
        else:
            written += (piece, b"e-6")
    return b"".join([*written, pieces[-1]])
