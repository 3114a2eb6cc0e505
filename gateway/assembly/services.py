"""The two services and their routes: our own always serve; calls ask them, or the vendors that settings name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import time
from typing import Any

import aiohttp
from aiohttp import web

from gateway.assembly.quality_work import QualityStores, quality_worker, server_name, speaker_names
from gateway.assembly.voice_store import shared_requests, voice_store
from gateway.clients.fetcher import GuardedFetcher
from gateway.clients.quality_http import QualityHttp
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.credentials import Credentials
from gateway.doors.quality_callback import CallbackAddresses
from gateway.engines.engines import Engines
from gateway.keys import subkey
from gateway.ports import CallStore, Clock, QualityApi, QualityTasks, UsageMeter, VoiceprintApi
from gateway.quality.api import QualityEndpoints
from gateway.quality.push import ResultPusher
from gateway.quality.record_routes import RecordRoutes
from gateway.quality.rule_routes import RuleRoutes
from gateway.quality.rulebook import Rulebook
from gateway.quality.service import QualityService
from gateway.quality.tokens import AccessTokens
from gateway.quality.trial import Trials
from gateway.quality.trial_routes import TrialRoutes
from gateway.quality.vendor_rules import VendorRulebook
from gateway.quality.vendor_sync import VendorSync
from gateway.settings import Settings
from gateway.stores.apps import Apps
from gateway.stores.rule_outcomes import SqliteRuleOutcomes
from gateway.stores.sqlite import Database
from gateway.voiceprint.admission import RequestLimits
from gateway.voiceprint.api import VoiceprintRoutes
from gateway.voiceprint.audit_routes import AuditRoutes
from gateway.voiceprint.clip import ClipReader
from gateway.voiceprint.links import SignedLinks
from gateway.voiceprint.local import LocalVoiceprintApi
from gateway.voiceprint.service import VoiceprintService
from protocol.quality import MAX_AUDIO_BYTES
from protocol.voiceprint import SCORE_PER_COSINE


@dataclass(frozen=True, slots=True)
class Ground:
    """What both services stand on."""

    settings: Settings
    database: Database
    engines: Engines
    clock: Clock
    key: bytes
    http: aiohttp.ClientSession
    fetcher: GuardedFetcher
    credentials: Credentials
    apps: Apps
    public_url: Callable[[], str]
    usage: UsageMeter
    no_space: Callable[[], str]
    """Why nothing large may be kept, or nothing."""
    begun: AsyncExitStack
    run: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
    """Runs work until the server stops."""


def usage_meter(ground: Ground) -> UsageMeter:
    """What counts an app's use of both services, and knows its quotas."""
    return ground.usage


async def voiceprint(
    ground: Ground, caller: Callable[[web.Request], str]
) -> tuple[list[web.RouteDef], VoiceprintApi, VoiceprintService]:
    """The routes of our voiceprint service, whom calls ask, and the service itself.

    `caller` tells the app of a request to `/v1`.
    """
    settings = ground.settings
    store = await voice_store(settings, ground.database, ground.key, ground.begun, ground.run)
    voices = VoiceprintService(
        store=store,
        changes=store,
        shared=bool(settings.redis_url),
        embedder=ground.engines.embedder,
        speech=ground.engines.confirmer,
        sounds=ground.engines.sounds if settings.sounds else None,
        denoiser=ground.engines.denoiser,
        normed=settings.voiceprint_norm == "as",
        narrow_excess=(settings.known_score_8k - settings.known_score) / SCORE_PER_COSINE,
        no_space=ground.no_space,
    )
    await voices.start()
    ground.begun.push_async_callback(voices.close)
    links = SignedLinks(subkey(ground.key, "links"), public_url=ground.public_url, now=time)
    endpoints = VoiceprintRoutes(
        voices,
        ClipReader(ground.engines.decoder, ground.fetcher),
        ground.credentials,
        links,
        limits=RequestLimits(settings.max_requests_per_app, settings.voiceprint_requests_per_s),
        sync_wait_s=settings.sync_wait_s,
        usage=usage_meter(ground),
        shared=shared_requests(settings, ground.begun),
    )
    ground.begun.push_async_callback(endpoints.close)
    routes = [*endpoints.routes(), *AuditRoutes(store, caller).routes()]
    if not settings.voiceprint_url:
        return routes, LocalVoiceprintApi(voices), voices
    app_id, _, secret = settings.voiceprint_app.partition(":")
    vendor = VoiceprintHttp(settings.voiceprint_url, ground.http, credentials=lambda _: (app_id, secret), now=time)
    return routes, vendor, voices


@dataclass(frozen=True, slots=True)
class Quality:
    """Voice QC: our own service's routes, whom calls ask, and what manages the rules of both."""

    routes: list[web.RouteDef]
    api: QualityApi
    rulebook: Rulebook
    vendor_sync: VendorSync | None
    worker: asyncio.Task[None] | None
    """Our own work, unless that is left to workers elsewhere."""
    tasks: QualityTasks
    service: QualityService

    async def task_result(self, app_id: str, session_id: str) -> Mapping[str, Any]:
        """The `result` object of a task of our own service. Raises Rejected."""
        return (await self.service.result(app_id, session_id)).result

    def rule_routes(
        self, ground: Ground, records: CallStore, caller: Callable[[web.Request], str]
    ) -> list[web.RouteDef]:
        """Our own routes for rules; `caller` tells a request's app."""
        trials = Trials(records, ground.clock, pinyin=ground.settings.pinyin)
        return [
            *RecordRoutes(SqliteRuleOutcomes(ground.database), ground.clock, caller).routes(),
            *TrialRoutes(self.rulebook, trials, caller).routes(),
            *RuleRoutes(self.rulebook, self.vendor_sync, caller).routes(),
        ]


def quality(
    ground: Ground, stores: QualityStores, voices: VoiceprintApi, callbacks: CallbackAddresses | None
) -> Quality:
    """Our voice QC, at work from here on. `voices` know speakers by name; `callbacks` says where a vendor may deliver
    its verdicts."""
    settings = ground.settings
    tasks, rules, folder = stores.tasks, stores.rules, stores.folder
    worker = quality_worker(
        tasks,
        rules,
        folder,
        ground.engines,
        ground.clock,
        name=server_name(settings.data_path),
        tasks_at_once=settings.quality_workers,
        finished=lambda: pusher.wake(),
        names=speaker_names(settings, voices),
        simplified=settings.quality_simplified,
    )
    service = QualityService(
        tasks,
        folder,
        submitted=worker.wake,
        fetcher=ground.fetcher,
        no_space=ground.no_space,
        before_queueing=stores.enter_rules,
        usage=usage_meter(ground),
    )
    pusher = ResultPusher(stores.pushes, service, ground.fetcher, ground.clock, ground.apps.secrets)
    vendor = _vendor(ground, callbacks)
    rulebook = Rulebook(rules, VendorRulebook(vendor) if vendor else None)
    tokens = AccessTokens(subkey(ground.key, "tokens"), ground.credentials, ground.apps, time)
    routes = QualityEndpoints(service, rulebook, tokens, max_audio_bytes=MAX_AUDIO_BYTES).routes()
    working = ground.run("quality-worker", worker.run()) if settings.quality_workers else None
    ground.run("quality-push", pusher.run())
    vendor_sync = None
    if vendor is not None:
        vendor_sync = VendorSync(rulebook, lambda: ground.apps.app_ids, ground.clock, every_s=settings.rules_sync_s)
        if settings.rules_sync_s:
            ground.run("rules-sync", vendor_sync.run())
    return Quality(routes, vendor or service, rulebook, vendor_sync, working, tasks, service)


def _vendor(ground: Ground, callbacks: CallbackAddresses | None) -> QualityHttp | None:
    settings = ground.settings
    if not settings.quality_url:
        return None
    client_id, _, client_secret = settings.quality_app.partition(":")
    return QualityHttp(
        ground.http,
        settings.quality_url,
        lambda _: (client_id, client_secret),
        callback_url=callbacks.url if callbacks else None,
    )
