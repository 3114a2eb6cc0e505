"""`earshot worker` as processes to be ill-treated, and a client of voice QC as third parties write it."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tests.faults.servers import APP_ID, PATIENCE_S, SECRET

DETECTION = "/rest/2.0/speech/publiccloudspeech/v1/voice/detection"


class Worker:
    """A process of `earshot worker` around engines that need no models."""

    def __init__(self, data: Path, environment: Mapping[str, str], *, mutant: str = "") -> None:
        module = ["tests.faults.mutants", mutant] if mutant else ["tests.integration.hummed_server"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
        data.mkdir(parents=True, exist_ok=True)
        self._log = data / f"worker-{time.monotonic_ns()}.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *module, "worker", "--data", str(data)],
                env={**inherited, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def log(self) -> str:
        return re.sub("\x1b\\[[0-9;]*m", "", self._log.read_text(errors="replace"))

    @property
    def begun(self) -> bool:
        """Whether it is at work; fails when it ended by itself."""
        assert self.process.poll() is None, self.log
        return "is ready" in self.log

    def kill(self) -> None:
        """SIGKILL, also of one that is frozen."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


class ThirdParty:
    """A client that does what those in use do: the token in the query string, results by GET with a query string,
    headerless PCM in base64, and a look at the text of `state_desc`, never at a number."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str) -> None:
        self._http = http
        self._base_url = base_url
        self._token = ""

    async def log_in(self) -> None:
        grant = {"grant_type": "client_credentials", "client_id": APP_ID, "client_secret": SECRET}
        async with self._http.get(f"{self._base_url}/oauth/2.0/token", params=grant) as response:
            self._token = (await response.json())["access_token"]

    async def submit(self, session_id: str, pcm: bytes, **fields: Any) -> None:
        body = {
            "speech_data": base64.b64encode(pcm).decode(),
            "session_id": session_id,
            "sample_rate": 8000,
            "pid": 80006,
            **fields,
        }
        async with self._http.post(self._base_url + DETECTION, params={"access_token": self._token}, json=body) as it:
            answer = await it.json()
        assert answer == {"error_code": 0, "error_message": "请求成功", "result": {"session_id": session_id}}, answer

    async def look(self, session_id: str) -> dict[str, Any]:
        query = {"access_token": self._token, "session_id": session_id}
        async with self._http.get(f"{self._base_url}{DETECTION}/result", params=query) as response:
            answer = await response.json()
        assert answer["error_code"] == 0, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def wait_for(self, session_id: str) -> dict[str, Any]:
        """The result, once its text says success; any text but those of the document fails."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            result = await self.look(session_id)
            match result["state_desc"]:
                case "处理成功":
                    return result
                case "任务已提交，排队等待中" | "执行中":
                    assert time.monotonic() < deadline_s, f"{session_id}: {result}"
                    await asyncio.sleep(0.05)
                case other:
                    raise AssertionError(other)
