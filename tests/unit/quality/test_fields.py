"""Bodies read within bounds."""

from collections.abc import AsyncIterator
from typing import cast

import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request

from gateway.quality.fields import BodyReader
from protocol.quality import ErrorCode, QualityFault


class _Content:
    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def _request(*chunks: bytes | Exception) -> web.Request:
    return make_mocked_request("POST", "/", payload=cast(StreamReader, _Content(*chunks)))


async def _fault(reader: BodyReader, request: web.Request) -> QualityFault:
    with pytest.raises(QualityFault) as raised:
        async with reader.json_object(request, 10, ErrorCode.AUDIO_TOO_LARGE):
            pass
    return raised.value


async def test_a_body_of_unknown_length_is_cut_off_at_its_limit() -> None:
    reader = BodyReader(max_held_bytes=100)
    assert (await _fault(reader, _request(b"{     ", b"     }"))).code == ErrorCode.AUDIO_TOO_LARGE


async def test_uploads_beyond_what_may_be_held_together_are_told_to_come_later() -> None:
    reader = BodyReader(max_held_bytes=15)
    async with reader.json_object(_request(b'{"a":1}   '), 10, ErrorCode.AUDIO_TOO_LARGE) as fields:
        assert fields == {"a": 1}
        fault = await _fault(reader, _request(b'{"b":2}'))
        assert fault.code == ErrorCode.UNAVAILABLE
        assert fault.retry_after_s is not None
    async with reader.json_object(_request(b'{"b":2}'), 10, ErrorCode.AUDIO_TOO_LARGE) as fields:
        assert fields == {"b": 2}


async def test_a_connection_that_ends_inside_a_body_is_the_callers_fault() -> None:
    fault = await _fault(BodyReader(max_held_bytes=100), _request(b"{", ConnectionResetError()))
    assert fault.code == ErrorCode.BODY_UNREADABLE
