"""The native socket with nothing but a WebSocket library: starts a call, sends a second of silence, hangs up.

python minimal.py ws://127.0.0.1:8081/v1/calls APPID SECRET
"""

# ruff: noqa: T201 - printing is what it is for

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time

from websockets.asyncio.client import connect


def signed_headers(app_id: str, secret: str) -> dict[str, str]:
    ts = str(int(time.time()))
    digest = hashlib.md5((app_id + ts).encode()).hexdigest()  # noqa: S324 - the signature's own definition
    signa = base64.b64encode(hmac.new(secret.encode(), digest.encode(), hashlib.sha1).digest()).decode()
    return {"X-App-Key": app_id, "X-Timestamp": ts, "X-App-Signature": signa}


async def main(url: str, app_id: str, secret: str) -> None:
    headers = signed_headers(app_id, secret)
    async with connect(url, additional_headers=headers, subprotocols=["earshot.v1"], compression=None) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"type": "start", "encoding": "pcm_s16le", "rate": 8000}))
        started = json.loads(await socket.recv())
        print("call", started["call_id"])
        for _ in range(10):
            await socket.send(bytes(2 * 800))  # 100 ms
        await socket.send(json.dumps({"type": "hangup", "wait_qc_ms": 5000}))
        async for text in socket:
            message = json.loads(text)
            print(
                message["seq"], message["type"], {key: message[key] for key in message if key in ("samples", "reason")}
            )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
