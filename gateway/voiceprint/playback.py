"""Plays the audio behind a signed link: whole or in ranges, as players ask for it (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web

from gateway.voiceprint.answer import answer
from gateway.voiceprint.links import AUDIO_PATH, SignedLinks
from gateway.voiceprint.service import VoiceprintService
from protocol.voiceprint import Code, VoiceprintError

_RANGE = re.compile(r"bytes=(\d{1,15})?-(\d{1,15})?", re.ASCII)
_CLIP = re.compile(r"[0-9]{1,2}", re.ASCII)


class Playback:
    """The route of the links. The link itself is the permission: it names neither app nor voice."""

    def __init__(self, service: VoiceprintService, links: SignedLinks) -> None:
        self._service = service
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """GET and HEAD."""
        return [web.get(f"{AUDIO_PATH}/{{print_id}}.flac", self._play)]

    async def _play(self, request: web.Request) -> web.Response:
        print_id, clip = request.match_info["print_id"], request.query.get("clip", "0")
        expires, signature = request.query.get("expires", ""), request.query.get("sig", "")
        if not (_CLIP.fullmatch(clip) and self._links.allows(print_id, int(clip), expires, signature)):
            return answer(Code.ILLEGAL_ACCESS, "the link is not ours or has expired", status=403)
        try:
            audio = await self._service.audio(print_id, int(clip))
        except VoiceprintError as error:
            return answer(error.code, error.msg, status=503)
        if audio is None:
            return answer(Code.ILLEGAL_PARAMETER, "the audio was deleted or replaced", status=404)
        return served(audio, f'"{print_id}-{int(clip)}"', request.headers)


def served(
    audio: bytes, etag: str, asked: Mapping[str, str], content_type: str = "audio/flac", filename: str = "voice.flac"
) -> web.Response:
    """The audio, or the one range of it that is asked for; several ranges at once get the whole, as the RFC allows."""
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'inline; filename="{filename}"',
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
    }
    found = _RANGE.fullmatch(asked.get("Range", "").strip())
    if found is None or not (found[1] or found[2]) or asked.get("If-Range", etag) != etag:
        return web.Response(body=audio, content_type=content_type, headers=headers)
    size = len(audio)
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
        if found[2] and int(found[2]) < first:  # no range at all: as if none had been asked for
            return web.Response(body=audio, content_type=content_type, headers=headers)
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first > last:
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return web.Response(status=206, body=audio[first : last + 1], content_type=content_type, headers=headers)
