"""What a search among many voices costs and misses: `python -m loadtest.bench_search --rows 100000 --rows 1000000`.

Prints lie as those of real speakers do (`simulated_voices`): each voice enrolled from two clips, queries from clips
that were not enrolled, half of them of nobody enrolled. The service's own index (`VoiceIndex`) is measured beside a
plain scan with numpy and faiss's flat index, query by query in turn, so that the ratios hold on a busy machine too.
Recall is against the plain scan. `--passages` measures the index of recorded passages in the same way, and what a start
takes that reads them from the database.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import faiss
import numpy as np

from gateway.ports import VoiceprintRow
from gateway.ports.passages import Passages, PassageSource
from gateway.stores import calls, passages
from gateway.stores.passages import SqlitePassages
from gateway.stores.sqlite import Database
from gateway.voiceprint import nearest
from gateway.voiceprint.passage_index import PassageIndex, Wanted
from gateway.voiceprint.search import VoiceIndex
from loadtest.simulated_voices import DIMENSIONS, SimulatedVoices, Vectors
from protocol.voiceprint import Scope

BATCH = 50_000
SEGMENTS_OF_A_CALL = 100
SEGMENTS_OF_A_VOICE = 200
"""Of passages: so many segments of each speaker."""
TOP, TOP_PASSAGES = 10, 50
YARDSTICK_EVERY = 5
"""The plain scans are so much slower that a share of the queries will do for their times."""
WHOLE = Scope("app", "org", None)

Search = Callable[[Vectors], Awaitable[list[int]]]


@dataclass(slots=True)
class Times:
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    async def take(self, search: Search, query: Vectors) -> list[int]:
        wall_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        found = await search(query)
        self.cpu_ms.append((time.process_time_ns() - cpu_ns) / 1e6)
        self.wall_ms.append((time.perf_counter_ns() - wall_ns) / 1e6)
        return found

    def told(self) -> str:
        wall, cpu = np.asarray(self.wall_ms), np.asarray(self.cpu_ms)
        return f"{np.median(wall):8.2f} {np.percentile(wall, 95):8.2f} {np.median(cpu):8.2f}"


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def material(rows: int, queries: int, segments: int) -> tuple[Vectors, Vectors]:
    """`rows` prints, `segments` of each speaker (1: enrolled voices), and queries: half known, half not."""
    voices = SimulatedVoices()
    prints, known = np.empty((rows, DIMENSIONS), np.float32), []
    asked = np.sort(np.random.default_rng(1).choice(rows, queries // 2, replace=False))
    for begin in range(0, rows, BATCH):
        count = min(BATCH, rows - begin)
        speakers = np.repeat(voices.speakers(-(-count // segments)), segments, axis=0)[:count]
        prints[begin : begin + count] = voices.enrolled(speakers) if segments == 1 else voices.clips(speakers)
        known.append(voices.clips(speakers[asked[(asked >= begin) & (asked < begin + count)] - begin]))
    if segments > 1:  # the segments of a speaker lie in many calls
        np.random.default_rng(2).shuffle(prints)
    return prints, np.concatenate([*known, voices.clips(voices.speakers(queries - queries // 2))])


async def measure(rows: int, queries: int, *, recorded: bool, tags: int) -> None:
    top = TOP_PASSAGES if recorded else TOP
    prints, asked = material(rows, queries, SEGMENTS_OF_A_VOICE if recorded else 1)
    flat = faiss.IndexFlatIP(DIMENSIONS)
    flat.add(prints)

    async def plain(query: Vectors) -> list[int]:
        cosines = prints @ query
        best = np.argpartition(-cosines, top)[:top]
        rows: list[int] = best[np.argsort(-cosines[best])].tolist()
        return rows

    async def library(query: Vectors) -> list[int]:
        rows: list[int] = flat.search(query[np.newaxis], top)[1][0].tolist()
        return rows

    ours, close = await (_passages(prints, top) if recorded else _voices(prints, top, tags))
    times = {name: Times() for name in ("ours", "numpy", "faiss flat")}
    kept = first = 0
    await ours(asked[0])
    for number, query in enumerate(asked):
        found = await times["ours"].take(ours, query)
        right = await (times["numpy"].take(plain, query) if number % YARDSTICK_EVERY == 0 else plain(query))
        if number % YARDSTICK_EVERY == 0:
            await times["faiss flat"].take(library, query)
        kept += len(set(found) & set(right))
        first += found[0] == right[0]
    await close()
    print(f"{'':>12} {'p50 ms':>8} {'p95 ms':>8} {'CPU ms':>8}")
    for name, taken in times.items():
        print(f"{name:>12} {taken.told()}")
    cpu = {name: float(np.median(taken.cpu_ms)) for name, taken in times.items()}
    print(
        f"CPU, numpy / ours {cpu['numpy'] / cpu['ours']:.1f}, faiss flat / ours {cpu['faiss flat'] / cpu['ours']:.1f}"
    )
    print(f"recall@{top} {kept / len(asked) / top:.4f}, top-1 recall {first / len(asked):.4f}, {len(asked)} queries\n")


async def _voices(prints: Vectors, top: int, tags: int) -> tuple[Search, Callable[[], Awaitable[None]]]:
    before_mb, begin_s = resident_mb(), time.process_time()
    index = VoiceIndex(DIMENSIONS)
    for number, vector in enumerate(prints):
        index.add(VoiceprintRow(f"{number:032x}", "app", "org", f"tag{number % tags}", f"speaker {number}", ()), vector)
    added_s = time.process_time() - begin_s
    await index.warm()
    coded_s = time.process_time() - begin_s - added_s
    _tell_build(
        f"{len(prints):,} voices of {tags} tags", added_s, coded_s, index.memory_bytes, resident_mb() - before_mb
    )

    async def search(query: Vectors) -> list[int]:
        return [int(hit.entry.print_id, 16) for hit in await index.closest(WHOLE, query, top)]

    return search, index.close


async def _passages(prints: Vectors, top: int) -> tuple[Search, Callable[[], Awaitable[None]]]:
    with TemporaryDirectory() as folder:
        database = Database(Path(folder) / "earshot.db", [calls.SCHEMA, passages.SCHEMA])
        store, index = SqlitePassages(database), PassageIndex(DIMENSIONS)
        for begin in range(0, len(prints), SEGMENTS_OF_A_CALL):
            part = prints[begin : begin + SEGMENTS_OF_A_CALL].astype(np.float16)
            source = PassageSource(f"{begin:012d}", "app", "file", "", 0, 0, "indexed", len(part))
            spans = np.stack([np.zeros(len(part)), np.arange(len(part)), np.arange(len(part)) + 1], axis=1)
            await store.add_file(source)
            await store.settle(source, Passages("bench", spans.astype(np.int32), part))
        before_mb, begin_s, after = resident_mb(), time.process_time(), ""
        while batch := await store.load("bench", after=after):
            for source, found in batch:
                index.add(source, found)
            after = batch[-1][0].source_id
        added_s = time.process_time() - begin_s
        database.close()
    await index.warmed()
    coded_s = time.process_time() - begin_s - added_s
    _tell_build(
        f"{len(prints):,} passages, read from the database",
        added_s,
        coded_s,
        index.memory_bytes,
        resident_mb() - before_mb,
    )

    async def search(query: Vectors) -> list[int]:
        found = await index.closest("app", query, Wanted(top))
        return [int(one.source_id) + one.begin_ms for one in found]

    return search, index.close


def _tell_build(what: str, added_s: float, coded_s: float, memory_bytes: int, grown_mb: float) -> None:
    print(
        f"{what}: built in {added_s + coded_s:.1f} s of CPU ({added_s:.1f} adding, {coded_s:.1f} codes); "
        f"vectors and codes {memory_bytes / 1e6:.0f} MB, the process grew by {grown_mb:.0f} MB"
    )


@click.command()
@click.option("--rows", "sizes", multiple=True, type=click.IntRange(1000), default=(20_000,), show_default=True)
@click.option("--queries", default=400, show_default=True, type=click.IntRange(10))
@click.option("--passages", "recorded", is_flag=True, help="Recorded passages, 200 of each voice, the best 50 of them.")
@click.option("--tags", default=1, show_default=True, help="Voices spread over so many, and searched in all of them.")
@click.option("--candidates", type=click.IntRange(10), help="Scored exactly; default as in the service.")
def main(sizes: tuple[int, ...], queries: int, recorded: bool, tags: int, candidates: int | None) -> None:
    """Print time, recall and memory of searches for each number of voices."""
    faiss.omp_set_num_threads(1)
    if candidates is not None:
        nearest.CANDIDATES = candidates
    for rows in sizes:
        asyncio.run(measure(rows, queries, recorded=recorded, tags=tags))


if __name__ == "__main__":
    main()
