"""The voiceprint API for calls on the same server: the service itself, without HTTP between."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ports import Candidate, Rejected, Unavailable
from gateway.voiceprint.clip import clip_of_pcm
from gateway.voiceprint.service import VoiceprintService
from protocol.voiceprint import SCORE_PER_COSINE, Recognition, Scope, VoiceprintError


class LocalVoiceprintApi:
    """Fills the role VoiceprintApi with our own service."""

    def __init__(self, service: VoiceprintService) -> None:
        self._service = service

    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        """The closest enrolled voices, best first, each name once (it may stand under several tags).

        Where nobody is enrolled the audio is not even looked at.
        `pcm` is mono s16le of any rate. Raises Rejected (10107 with the reason, for audio too poor) or Unavailable.
        """
        scope = Scope(app_id, org_id, tag_id)
        if self._service.nobody_in(scope):
            return ()
        try:
            clip = clip_of_pcm(pcm, rate_hz)
            recognition = Recognition(scope, denoise=False)
            hits = await self._service.recognize(recognition, clip, only_voices=True)
        except VoiceprintError as error:
            if error.code.retryable:
                raise Unavailable(error.msg) from error
            raise Rejected(error.msg, code=error.code) from error
        best: dict[str, Candidate] = {}
        for hit in hits:
            best.setdefault(hit.entry.name, Candidate(hit.entry.name, SCORE_PER_COSINE * hit.cosine))
        return list(best.values())
