"""Rows 3 to 7: frames and messages that no honest client sends."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from protocol.codec import MAX_MESSAGE_BYTES
from tests.faults.ledger import Ledger
from tests.faults.raw import BINARY, OFFER, TEXT, RawSocket, fragments, frame, signed, started_call, upgrade
from tests.faults.servers import FaultServer, Serve
from tests.faults.witness import unharmed_call

MOST_MORE_MEMORY_BYTES = 5 * 1024 * 1024
PCM = bytes(range(160))
MIB = 1024 * 1024


async def costs_no_memory(server: FaultServer, attack: Callable[[], Awaitable[None]]) -> int:
    """Run an attack twice, the first time to warm up; how much more memory the second took at its peak."""
    await attack()
    server.forget_peak_memory()
    before_bytes = server.memory_bytes
    await attack()
    more_bytes = server.peak_memory_bytes - before_bytes
    assert more_bytes < MOST_MORE_MEMORY_BYTES
    return more_bytes


async def pour(wire: RawSocket, size_bytes: int) -> None:
    """Send that many bytes, or as many as the server takes."""
    with suppress(ConnectionError):
        for _ in range(size_bytes // MIB):
            await wire.send(bytes(MIB))


# --- row 3 -------------------------------------------------------------------------------------------------------


async def check_unmasked_frames(serve: Serve, mutant: str = "") -> int:
    server = serve(mutant=mutant)
    tried = 0
    async with unharmed_call(server) as app:
        for bad in (frame(BINARY, PCM, masked=False), frame(TEXT, b'{"type":"hangup"}', masked=False)):
            async with started_call(server.ws) as wire:
                await wire.send(frame(BINARY, PCM) + bad)
                assert await wire.ends() == 1002
                assert wire.error_codes == []
                call_id = wire.texts[0]["call_id"]
                # The call waits for its client: had the app seen the frame, it would hold more, or have hung up.
                async with await upgrade(server.ws) as second:
                    await second.tell(
                        type="resume", call_id=call_id, resume_token=wire.texts[0]["resume_token"], last_seq=1
                    )
                    assert (await second.until("resumed"))["samples"] == len(PCM) // 2
                _, told = await app.get(f"/v1/calls/{call_id}")
                assert b'"state":"live"' in told
            tried += 1
    return tried


@pytest.mark.row(3)
async def test_an_unmasked_frame_closes_with_1002_and_is_not_heard(serve: Serve, ledger: Ledger) -> None:
    ledger.add(row=3, fault="frame without a mask", tried=await check_unmasked_frames(serve))


@pytest.mark.full
@pytest.mark.row(3)
async def test_the_check_sees_a_server_that_takes_unmasked_frames(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="1000 == 1002"):
        await check_unmasked_frames(serve, "unmasked_accepted")


# --- rows 4 and 5 ------------------------------------------------------------------------------------------------


async def check_oversized_messages(serve: Serve, mutant: str = "") -> int:
    server = serve(mutant=mutant)
    limit = MAX_MESSAGE_BYTES

    async def attack() -> None:
        for begin in (
            frame(BINARY, bytes(limit + 1)),
            fragments(BINARY, (bytes(limit // 2), bytes(limit // 2), b"\0")),
            frame(BINARY, claims_bytes=1 << 40),
            frame(TEXT, claims_bytes=(1 << 63) - 1),
        ):
            async with started_call(server.ws) as wire:
                await wire.send(begin)
                await pour(wire, 16 * MIB)
                assert await wire.ends() == 1009

    async with unharmed_call(server):
        await costs_no_memory(server, attack)
    return 8


@pytest.mark.row(4)
async def test_an_oversized_message_closes_with_1009_and_costs_no_memory(serve: Serve, ledger: Ledger) -> None:
    tried = await check_oversized_messages(serve)
    ledger.add(row=4, fault="header claims up to 2^63 - 1 bytes; limit + 1", tried=tried)


@pytest.mark.full
@pytest.mark.row(4)
async def test_the_check_sees_a_server_without_a_limit_of_size(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="1002 == 1009"):  # what came after it made no frame
        await check_oversized_messages(serve, "no_size_limit")


async def check_deflate_bomb(serve: Serve, mutant: str = "") -> int:
    server = serve(mutant=mutant)
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = (deflate.compress(bytes(64 * MIB)) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
    assert len(bomb) < MAX_MESSAGE_BYTES, "it must pass the limit as it travels"
    offer = (
        *signed(),
        *OFFER,
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover; server_no_context_takeover"),
    )

    async def attack() -> None:
        async with await upgrade(server.ws, offer) as wire:
            await wire.start()
            await wire.send(frame(TEXT, bomb, reserved=0b100))
            # 1002: what was never agreed on; 1009: agreed on, and refused before it is unpacked
            assert await wire.ends() in (1002, 1009)

    async with unharmed_call(server):
        await costs_no_memory(server, attack)
    return 2


@pytest.mark.row(5)
async def test_a_deflate_bomb_is_never_unpacked(serve: Serve, ledger: Ledger) -> None:
    ledger.add(row=5, fault="64 MiB deflated into 64 kB", tried=await check_deflate_bomb(serve))


@pytest.mark.full
@pytest.mark.row(5)
async def test_the_check_sees_a_server_that_unpacks_whatever_comes(serve: Serve) -> None:
    with pytest.raises(AssertionError, match=f"< {MOST_MORE_MEMORY_BYTES}"):
        await check_deflate_bomb(serve, "no_size_limit")


# --- row 6 -------------------------------------------------------------------------------------------------------


async def check_fragments(serve: Serve, mutant: str = "") -> int:
    server = serve(mutant=mutant)

    async def attack() -> None:
        async with started_call(server.ws) as wire:
            await wire.send(fragments(BINARY, [b"\1"] * 1000))
            await wire.until("ack", samples=500)  # cut small, but a message
        for parts in ([b"\1"] * 5000, [b""] * 100_000):
            async with started_call(server.ws) as wire:
                with suppress(ConnectionError):
                    await wire.send(fragments(BINARY, parts))
                # Too many fragments of one message, or far too many frames: whichever is noticed first.
                assert await wire.ends() in (1008, 1009)

    async with unharmed_call(server):
        await costs_no_memory(server, attack)
    return 4


@pytest.mark.row(6)
async def test_a_message_in_thousands_of_fragments_costs_no_memory(serve: Serve, ledger: Ledger) -> None:
    tried = await check_fragments(serve)
    ledger.add(row=6, fault="message of 5,000 one-byte and 100,000 empty fragments", tried=tried)


@pytest.mark.full
@pytest.mark.row(6)
async def test_the_check_sees_a_server_that_gathers_fragments_without_end(serve: Serve) -> None:
    with pytest.raises(AssertionError, match=r"1000 in \(1008, 1009\)"):
        await check_fragments(serve, "endless_fragments")


# --- row 7 -------------------------------------------------------------------------------------------------------

NOT_JSON = (b"\xff\xfe", b"{", b"[" * 100_000, b'{"a":' * 40_000, b'"', b"", b"null", b"[]", b"NaN", b"\xed\xa0\x80")
WRONG_TYPE = (b'{"type":"bogus"}', b"{}", b'{"type":1}', b'{"type":null}')
BAD_FIELDS = (
    b'{"type":"transcript","text":"x","begin_ms":NaN,"end_ms":1}',
    b'{"type":"transcript","text":"x","begin_ms":-1,"end_ms":1}',
    b'{"type":"transcript","text":"x","begin_ms":0,"end_ms":1e400}',
    b'{"type":"hangup","wait_qc_ms":99999999999999999999999999}',
    b'{"type":"ping","id":["' + b"x" * 1000 + b'"]}',
    b'{"type":"dtmf"}',
)
CODES = {1007: ("bad_json",), 1008: ("unknown_type", "bad_message")}
"""What must come before each close code; only text that is no UTF-8 may close without a message."""


async def check_garbage(serve: Serve, mutant: str = "") -> int:
    server = serve(mutant=mutant)
    tried = 0
    async with unharmed_call(server):
        for text in (*NOT_JSON, *WRONG_TYPE, *BAD_FIELDS):
            for begun in (False, True):
                async with await upgrade(server.ws) as wire:
                    if begun:
                        await wire.start()
                    await wire.send(frame(TEXT, text))
                    close = await wire.closed()
                    assert close in CODES, f"{text[:40]!r}: {close}"
                    if not _is_utf8(text):
                        assert close == 1007
                    else:
                        assert len(wire.error_codes) == 1
                        assert wire.error_codes[0] in CODES[close], f"{text[:40]!r}: {wire.error_codes}"
                tried += 1
    assert "Traceback" not in server.log
    assert "Error" not in server.log
    return tried


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.row(7)
async def test_garbage_is_answered_with_a_code_and_never_with_a_traceback(serve: Serve, ledger: Ledger) -> None:
    tried = await check_garbage(serve)
    ledger.add(row=7, fault="bad UTF-8, broken and deep JSON, unknown types, NaN", tried=tried)


@pytest.mark.full
@pytest.mark.row(7)
async def test_the_check_sees_a_parser_that_lets_its_errors_out(serve: Serve) -> None:
    with pytest.raises(AssertionError, match=r"b'\{': 1000"):
        await check_garbage(serve, "parser_errors_escape")
