"""What a socket may take, of time, of messages and of memory, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings import Settings

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """The native socket's limits; the operator's settings where there are any."""

    first_message_timeout_s: float
    audio_timeout_s: float
    max_call_s: float
    overloaded_retry_ms: int = 5000
    """What a client that is told to come later is told to wait."""
    handshake_timeout_s: float = 10.0
    """From the connection to a whole upgrade request, TLS included."""
    max_strangers: int = 1024
    """Connections that have not brought their upgrade request yet; beyond, the oldest of them is cut."""
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    max_messages_per_s: float = 500.0
    """Frames that carry no good part of audio (`TINY_MS`), pings among them; 0: any number."""
    catch_up_speed: float = 20.0
    """How much faster than real time audio is taken for longer than `CATCH_UP_S`; 0: as fast as it comes."""
    flow_after_s: float = 1.0
    """A client that is held back for longer than this is told so."""
    max_queued_messages: int = 4096
    """What may wait for a client that does not read ..."""
    max_queued_bytes: int = 4 * MIB
    """... and how large it may be together."""
    max_watchers: int = 1000
    """Sockets that watch calls; 0: any number."""
    slow_reader_grace_s: float = 10.0
    """How long a client that was cut off for not reading may take to read why."""


BURST_S = 4.0
"""So many seconds' worth of tiny frames may come at once."""
TINY_MS = 10
"""A binary frame with at least this much audio is no tiny one: its number is bounded by the speed of the audio."""
CATCH_UP_S = 30.0
"""So much audio may come at once, before its speed is bounded."""
MAX_SAID_BYTES = 8 * MIB
"""What a client may say in one call besides audio: all of it is kept with the call."""


def door_limits(settings: Settings) -> DoorLimits:
    """The operator's settings as the native door takes them."""
    return DoorLimits(
        first_message_timeout_s=settings.first_message_timeout_s,
        audio_timeout_s=settings.audio_timeout_s,
        max_call_s=settings.max_call_s,
        handshake_timeout_s=settings.handshake_timeout_s,
        max_strangers=settings.max_pending_connections,
        ping_interval_s=settings.ping_interval_s,
        ping_timeout_s=settings.ping_timeout_s,
        max_messages_per_s=settings.max_messages_per_s,
        catch_up_speed=settings.catch_up_speed,
        max_watchers=settings.max_watchers,
    )
