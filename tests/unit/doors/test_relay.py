"""Passing a connection on leaves nothing behind, also where it comes to nothing."""

from __future__ import annotations

import asyncio
import secrets
from types import SimpleNamespace
from typing import cast

from gateway.doors.relay import PassableConnection


async def test_who_is_cancelled_while_the_owner_is_asked_leaves_it_no_connection() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        left.set()
        writer.close()

    name = f"earshot-test-{secrets.token_hex(8)}"
    server = await asyncio.start_unix_server(never_answers, "\0" + name)
    connection = cast(PassableConnection, SimpleNamespace(loop=asyncio.get_running_loop()))
    passing = asyncio.create_task(PassableConnection.pass_on(connection, name, "demo", "secret"))
    async with asyncio.timeout(30):
        await asked.wait()
        passing.cancel()
        await asyncio.wait([passing])
        assert passing.cancelled()
        await left.wait()
    server.close()
    await server.wait_closed()
