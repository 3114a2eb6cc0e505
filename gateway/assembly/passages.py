"""Finding a voice in what was recorded: listens from here on, beside calls and behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time

from aiohttp import web

from gateway.assembly.services import Ground
from gateway.keys import subkey
from gateway.ports import CallStore
from gateway.ports.passages import SourceKind
from gateway.stores.passage_audio import RecordedAudio
from gateway.stores.passages import SqlitePassages
from gateway.stores.recordings import Recordings
from gateway.voiceprint.clip import ClipReader
from gateway.voiceprint.listening import Listener
from gateway.voiceprint.passage_links import PassageLinks
from gateway.voiceprint.passage_routes import PassageRoutes
from gateway.voiceprint.passage_service import PassageService
from gateway.voiceprint.service import VoiceprintService

REST_BESIDE_CALLS, REST_BESIDE_LATE_CALLS = 3.0, 50.0
"""While calls are on, listening rests so many times as long as it works: a quarter of a processor at most, and hardly
any when live text is late."""


async def passages(
    ground: Ground,
    voices: VoiceprintService,
    records: CallStore,
    recordings: Recordings,
    caller: Callable[[web.Request], str],
    calls_live: Callable[[], bool],
) -> tuple[list[web.RouteDef], PassageService]:
    """The routes, and the service, which is told when a recording is deleted; `caller` tells a request's app."""
    engines = ground.engines
    audio = RecordedAudio(ground.settings.data_path, recordings)

    async def give_way(took_s: float) -> None:
        if calls_live():
            await asyncio.sleep((REST_BESIDE_LATE_CALLS if engines.overload else REST_BESIDE_CALLS) * took_s)

    listener = Listener(engines.background_embedder, engines.background_confirmer, give_way=give_way)
    kinds: tuple[SourceKind, ...] = ("call", "file") if ground.settings.index_calls else ("file",)
    store = SqlitePassages(ground.database)
    service = PassageService(store, audio, listener, records.left_behind, ground.clock, kinds=kinds)
    await service.start()
    ground.begun.push_async_callback(service.close)
    ground.run("passages", service.run())
    links = PassageLinks(subkey(ground.key, "passages"), public_url=ground.public_url, now=time)
    routes = PassageRoutes(
        service,
        voices,
        ClipReader(engines.decoder, ground.fetcher),
        engines.decoder,
        audio,
        links,
        caller,
        least_score=ground.settings.known_score,
        no_space=ground.no_space,
    )
    return routes.routes(), service
