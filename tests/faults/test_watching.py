"""Watching over two nodes as real processes: which one holds a call does not matter, nor that one of them dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from protocol.messages import Alert, Ended, Segment, Started, Transcript
from protocol.watching import CallGone, CallInBrief, CaughtUp, Watching
from tests.client import account
from tests.faults.ledger import Ledger
from tests.faults.test_cluster import FIRST, SECOND, Listening, Nodes, hang_up
from tests.redis_server import RedisServer
from tests.watching import Onlooker, onlooker


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with RedisServer(tmp_path / "redis") as redis:
        nodes = Nodes(tmp_path, redis)
        yield nodes
        nodes.end()


def seqs_of(page: Onlooker) -> list[int]:
    return [one.seq for one in page.told if isinstance(one, Started | Segment | Alert | Transcript | Ended)]


@pytest.mark.row(30)
async def test_whoever_watches_at_another_node_sees_a_call_through_the_death_of_its_node(
    nodes: Nodes, ledger: Ledger
) -> None:
    nodes.start("b")
    async with (
        nodes.client("a", "b") as client,
        onlooker(nodes["b"].ws, app_id="demo", secret="secret") as board,
        onlooker(nodes["b"].ws, app_id="demo", secret="secret") as page,
    ):
        heard = Listening(client)
        await client.send_audio(FIRST)
        await heard.until(Segment, lambda one: one.state == "closed")
        await heard.acked(len(FIRST) // 2)
        await board.client.watch(levels=True)
        await board.until(Watching)
        await board.until(CallInBrief, lambda brief: brief.call_id == client.call_id)
        await page.client.watch(call_id=client.call_id)
        assert (await page.until(CaughtUp)).live
        nodes["a"].kill()
        await client.send_audio(SECOND)
        await hang_up(client, heard)
        await page.until(Ended)
        seqs = seqs_of(page)
        assert seqs == sorted(set(seqs)), "nothing twice, and in order"
        kept = {one.seq for one in heard.of(Segment)} | {one.seq for one in heard.of(Transcript) if one.final}
        assert kept <= set(seqs), "nothing missing"
        assert all(one.resume_token == "" for one in page.of(Started))
        gone = await board.until(CallGone)
        last = board.of(CallInBrief)[-1]
        assert (gone.call_id, last.call_id, last.state) == (client.call_id, client.call_id, "judged")
    ledger.add(row=30, fault="kill -9 of a watched call's node, watched at another", tried=1)


async def test_a_ticket_is_good_at_one_node_of_all(nodes: Nodes) -> None:
    nodes.start("a")
    nodes.start("b")
    async with account(nodes["a"].http, nodes["a"].ws, "demo", "secret") as app:
        status, body = await app.send("POST", "/v1/tickets", {"purpose": "watch"})
    assert status == 201
    ticket = msgspec.json.decode(body)["ticket"]
    async with onlooker(nodes["b"].ws, ticket=ticket) as one:
        await one.client.watch()
        await one.until(Watching)
    for name in ("a", "b"):
        with pytest.raises(InvalidStatus) as refused:
            async with onlooker(nodes[name].ws, ticket=ticket):
                pass
        assert refused.value.response.status_code == 401
