"""Voice QC over HTTP: the vendor's cloud or a service of our own, told apart by the base URL alone."""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import soxr

from gateway.clients.quality_errors import failure_of, parsed_answer
from gateway.ports import QualityAnswer, QualityTask, Rejected, StoredCategory, Unavailable
from protocol.quality import (
    CREATE_PATH,
    PID_PLAIN,
    RESULT_PATH,
    RULE_PATH,
    SAMPLE_RATES_HZ,
    TOKEN_PATH,
    ErrorCode,
)
from protocol.rules.book import plain

ClientCredentials = Callable[[str], tuple[str, str]]
"""From an app of ours to the client id and secret that the other side knows it by. Raises LookupError."""

_TOKEN_FAULTS = frozenset({int(ErrorCode.TOKEN_INVALID), int(ErrorCode.TOKEN_EXPIRED)})


class QualityHttp:
    """Fills the role `QualityApi`, and manages rules. Every method raises Rejected or Unavailable.

    Tokens are fetched when needed, kept per app, and renewed once when the other side no longer takes them.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base_url: str,
        credentials: ClientCredentials,
        *,
        timeout_s: float = 120.0,
        callback_url: Callable[[str, str], str] | None = None,
    ) -> None:
        """`http` stays its owner's; `timeout_s` bounds one request, an upload included.

        `callback_url` gives the address at which the verdict on a task of (app_id, session_id) is welcome.
        """
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._callback_url = callback_url
        self._tokens: dict[str, str] = {}

    # --- QualityApi ----------------------------------------------------------------------------------------------

    async def create(self, task: QualityTask) -> None:
        """Send a call's recording to be transcribed and judged; the same session again overwrites it there."""
        try:
            audio, rate_hz = await asyncio.to_thread(_uploadable, task.recording)
        except (OSError, wave.Error, EOFError) as fault:
            raise Rejected(
                f"the recording {task.recording} cannot be read: {fault}", code=str(int(ErrorCode.AUDIO_UNUSABLE))
            ) from fault
        fields: dict[str, Any] = {
            "session_id": task.session_id,
            "speech_data": audio,
            "sample_rate": rate_hz,
            "pid": PID_PLAIN,
            "role_num": task.channels,
            "enable_detection": True,
            "enable_detection_detail": True,
            "is_split_channel": task.channels == 2,
            "language": task.language,
        }
        if task.categories:
            fields["categories"] = list(task.categories)
        if self._callback_url is not None:
            fields["callback_url"] = self._callback_url(task.app_id, task.session_id)
        await self._call(task.app_id, "POST", CREATE_PATH, body=fields)

    async def result(self, app_id: str, session_id: str) -> QualityAnswer:
        """Where a task stands."""
        answer = await self._call(app_id, "GET", RESULT_PATH, query={"session_id": session_id})
        try:
            return QualityAnswer.of(answer.get("result"))
        except ValueError as fault:
            raise Unavailable(f"voice QC answered a task's query badly: {fault}") from fault

    # --- rules ---------------------------------------------------------------------------------------------------

    async def rules(
        self, app_id: str, category: str = "", *, page_no: int = 1, page_size: int = 10
    ) -> tuple[int, Sequence[StoredCategory]]:
        """How many categories hold `category` in their name, and one page of them."""
        query = {"category": category, "page_no": str(page_no), "page_size": str(page_size)}
        answer = await self._call(app_id, "GET", RULE_PATH, query=query)
        listed = answer.get("results", answer.get("result"))
        try:
            page = msgspec.convert(listed, _RulePage)
        except msgspec.ValidationError as fault:
            raise Unavailable(f"voice QC answered a list of rules that cannot be read: {fault}") from fault
        return page.total, [
            StoredCategory(one.category, one.description, one.contents or one.content) for one in page.rule
        ]

    async def add_rule(self, app_id: str, rule: StoredCategory) -> None:
        await self._call(app_id, "POST", RULE_PATH, body=_rule_fields(rule))

    async def modify_rule(self, app_id: str, rule: StoredCategory) -> None:
        await self._call(app_id, "PUT", RULE_PATH, body=_rule_fields(rule))

    async def delete_rule(self, app_id: str, category: str) -> None:
        await self._call(app_id, "DELETE", RULE_PATH, body={"category": category})

    # --- around them ---------------------------------------------------------------------------------------------

    async def _call(
        self,
        app_id: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One operation with a valid token: in the query string where there is no body, else in the body."""
        token = self._tokens.get(app_id) or await self._renewed(app_id)
        answer, retry_after_s = await self._with_token(token, method, path, query, body)
        if answer.get("error_code") in _TOKEN_FAULTS:
            token = await self._renewed(app_id)
            answer, retry_after_s = await self._with_token(token, method, path, query, body)
        failure = failure_of(answer, retry_after_s)
        if failure is not None:
            raise failure
        return answer

    async def _with_token(
        self, token: str, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], float | None]:
        if body is None:
            return await self._exchange(method, path, {**(query or {}), "access_token": token}, None)
        data = await asyncio.to_thread(msgspec.json.encode, {**body, "access_token": token})
        return await self._exchange(method, path, {}, data)

    async def _renewed(self, app_id: str) -> str:
        try:
            client_id, client_secret = self._credentials(app_id)
        except LookupError as fault:
            raise Rejected(f"no voice QC credentials for the app {app_id!r}", code="no_credentials") from fault
        query = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        answer, retry_after_s = await self._exchange("POST", TOKEN_PATH, query, None)
        token = answer.get("access_token")
        if not isinstance(token, str):
            raise failure_of(answer, retry_after_s) or Unavailable("voice QC answered without an access_token")
        self._tokens[app_id] = token
        return token

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str], data: bytes | None
    ) -> tuple[dict[str, Any], float | None]:
        """The answer's JSON object, and what its Retry-After says."""
        try:
            async with self._http.request(
                method,
                self._base_url + path,
                params=query,
                # A stream, so that a large body is not written in one go on the event loop.
                data=None if data is None else io.BytesIO(data),
                headers={"Content-Type": "application/json"},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return parsed_answer(response.status, response.headers, await response.read())
        except TimeoutError as fault:
            raise Unavailable(f"voice QC gave no answer in {self._timeout.total} s") from fault
        except aiohttp.ClientError as fault:
            # The error's text may hold the URL, and that the token or secret.
            raise Unavailable(f"voice QC cannot be reached ({type(fault).__name__})") from None


class _ListedRule(msgspec.Struct, frozen=True):
    category: str
    description: str = ""
    contents: tuple[str, ...] = ()
    content: tuple[str, ...] = ()


class _RulePage(msgspec.Struct, frozen=True):
    total: int
    rule: tuple[_ListedRule, ...] = ()


def _rule_fields(rule: StoredCategory) -> dict[str, Any]:
    # A vendor would judge a rule with options by its bare expression: better not at all.
    return {"category": rule.category, "description": rule.description, "contents": list(plain(rule.contents))}


def _uploadable(recording: Path) -> tuple[str, int]:
    """Base64 of a WAV file at a rate the API takes, and that rate; other rates become 16 kHz. Blocking."""
    with wave.open(str(recording), "rb") as file:
        rate_hz, channels = file.getframerate(), file.getnchannels()
        if rate_hz in SAMPLE_RATES_HZ:
            return base64.b64encode(recording.read_bytes()).decode(), rate_hz
        if file.getsampwidth() != 2:
            raise wave.Error(f"its samples have {8 * file.getsampwidth()} bits, expected 16")
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, channels)
    target_hz = SAMPLE_RATES_HZ[-1]
    converted = io.BytesIO()
    with wave.open(converted, "wb") as output:
        output.setnchannels(channels)
        output.setsampwidth(2)
        output.setframerate(target_hz)
        output.writeframes(soxr.resample(samples, rate_hz, target_hz).tobytes())
    return base64.b64encode(converted.getvalue()).decode(), target_hz
