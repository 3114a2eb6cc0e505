"""Values made from the message types themselves: whatever their annotations allow."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Every value that a field's type allows."""
    match kind:
        case inspect.Metadata(type=inner):
            return values(inner)
        case inspect.AnyType():
            return JSON
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType(ge=low, le=high):
            return st.integers(low, high if high is not None else 2**63 - 1)
        case inspect.FloatType(ge=low, le=high):
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case inspect.StrType(pattern=str() as pattern):
            return st.from_regex(pattern).filter(lambda text: len(text) <= (kind.max_length or 256))
        case inspect.StrType(min_length=shortest, max_length=longest):
            return st.text(min_size=shortest or 0, max_size=min(longest or 20, 20))
        case inspect.LiteralType(values=allowed):
            return st.sampled_from(allowed)
        case inspect.ListType(item_type=item, max_length=longest):
            return st.lists(values(item), max_size=min(longest or 3, 3))
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(values(key), values(value), max_size=3)
        case inspect.UnionType(types=types):
            return st.one_of([values(one) for one in types])
        case inspect.StructType(cls=struct, fields=fields):
            return st.builds(struct, **{field.name: values(field.type) for field in fields})
    raise NotImplementedError(f"no values for {kind}")


def messages_of(union: Any) -> st.SearchStrategy[Any]:
    """Messages of a closed union, each type as likely as the others."""
    kinds = inspect.multi_type_info(union.__args__)
    return st.one_of([values(kind) for kind in kinds])


def as_json(message: msgspec.Struct) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(message))
    return decoded
