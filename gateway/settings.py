"""Every setting of Earshot: one frozen type, filled from defaults, a TOML file, then `EARSHOT_*` variables."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from platformdirs import user_cache_path

from gateway.call.channel import AnalysisSettings
from gateway.call.segmenter import SegmenterSettings
from gateway.call.speaker import SpeakerSettings
from gateway.origins import parse_origins
from gateway.ports import Product, Quotas

PREFIX = "EARSHOT_"
SECRET = frozenset({"apps", "voiceprint_app", "quality_app", "redis_url", "cluster_key"})
"""Settings that hold secrets: no message shows their values."""
Milliseconds = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Score = Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Days = Annotated[float, Meta(ge=0, le=36_500)]

# The core of a call knows its own best values; here they only get names.
_SEGMENTER, _ANALYSIS, _SPEAKER = SegmenterSettings(), AnalysisSettings(), SpeakerSettings()

KNOWN_SCORES = {"campplus": (_SPEAKER.known_score, _SPEAKER.known_score_8k), "ge2e": (75.0, 78.0)}
"""By voiceprint model: from which score a voice is known, of wide-band audio and of 8 kHz lines (BENCHMARKS.md)."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of a field is its TOML key; in upper case behind `EARSHOT_`, its variable."""

    # --- where ---
    http: str = "127.0.0.1:8080"
    """Listener of the HTTP side, host:port; port 0 picks a free one."""
    ws: str = "127.0.0.1:8081"
    """Listener of the native socket, host:port."""
    data: str = "earshot-data"
    """Folder of the journal, recordings and database."""
    models_dir: str = ""
    """Folder of the model files; default the user's cache folder."""
    public_url: str = ""
    """Base of every link that Earshot gives out; default the HTTP listener."""
    public_ws_url: str = ""
    """Base of the native socket's address as browsers reach it, wss://host; default: the host by which they asked, and
    the port of `ws`."""
    origins: str = ""
    """Origins whose pages may open sockets beside our own, https://crm.example.com, by commas; compared exactly."""
    tls_cert: str = ""
    """PEM certificate chain; with `tls_key`, both listeners speak TLS. Read again on SIGHUP."""
    tls_key: str = ""
    fetch_allow: str = ""
    """Addresses beside public ones that a request may make this server call, "CIDR:port" by commas; port *: any."""
    apps: str = ""
    """Apps beside those of `earshot app create`: "appid:secret,appid:secret"."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    # --- calls ---
    max_calls: Count = 1000
    """Calls at a time; those that have hung up and wait for their verdict do not count."""
    max_calls_per_app: Count = 0
    """Calls at a time of one app; 0: as many as max_calls allows."""
    max_call_s: Seconds = 14_400
    """A call longer than this is hung up (4 hours)."""
    resume_window_s: Seconds = 60
    """How long a call waits for a client that lost its socket."""
    first_message_timeout_s: Seconds = 10
    audio_timeout_s: Seconds = 15
    """Without audio for this long, outside a pause, a call is given up."""
    settle_timeout_s: Seconds = 30
    """How long after hangup the last words may take."""
    clock_skew_s: Seconds = 300
    """How far a signed timestamp may lie from our clock."""
    commit_interval_ms: Milliseconds = 100
    """Audio is synced to disk at least this often, then acknowledged."""
    drain_s: Seconds = 10
    """What a shutdown may take."""

    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Processes that take calls, on one port and around one set of engines; 1: the server is one process."""

    # --- several nodes (docs/cluster.md) ---
    redis_url: str = ""
    """The Redis that nodes share, redis://, rediss:// or unix://; empty: this node is alone."""
    cluster_key: str = ""
    """What the nodes of a cluster sign with; the same on each, 32 characters or more."""
    ack: Literal["", "local", "replica"] = ""
    """Audio is acked once it is on this node's disk (`local`), or in Redis too (`replica`); default `replica` with
    `redis_url`."""
    node: str = ""
    """This node's name in the cluster; default the host's and a part that the data folder keeps."""
    lease_s: Annotated[float, Meta(ge=1, le=600)] = 15
    """A node that Redis has not heard of for this long counts as gone."""
    recordings_folder: str = ""
    """Folder of calls' recordings; default `recordings` in the data folder. Nodes that have the same one play, and
    complete, one another's."""

    # --- use and retention ---
    quotas: str = ""
    """What apps may use of our own services on a day (UTC): "quality_s=3600" for each app, "shop:quality_s=60" or
    "shop:voiceprint_requests=100" for one, by commas; 0, and what is not named: no limit."""
    retain_recordings_days: Days = 0
    """Recordings of calls are deleted so long after their end; 0: never."""
    retain_results_days: Days = 0
    """Calls with all that was said in them, and results of voice QC, are deleted so long after; 0: never."""

    # --- pressure ---
    disk_low_mb: Count = 512
    """With less free space (MiB) than this for the data folder, nothing new is taken on; calls go on. 0: never."""
    disk_warn_mb: Count = 2048
    """With less than this, the log warns."""
    max_loop_lag_ms: Milliseconds = 500
    """When the event loop runs later than this, on average over 2 s, new calls are refused; 0: never."""
    max_messages_per_s: Count = 500
    """Control messages, pings and frames with under 10 ms of audio, of one socket; four times as many at once."""
    catch_up_speed: Annotated[float, Meta(ge=0)] = 20
    """How many times faster than real time audio is taken, after the first 30 s; 0: as fast as it comes."""
    max_watchers: Count = 1000
    """Sockets that watch calls at a time; 0: any number."""
    max_requests_per_app: Count = 0
    """Requests at a time of one app to the voiceprint API; 0: any number."""
    voiceprint_requests_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 0
    """How many requests a second one app may send to the voiceprint API; 0: any number."""
    sync_wait_s: Seconds = 15
    """A voiceprint request that takes longer is answered 10000, and its result when it is sent again; 0: it waits."""
    max_pending_connections: Count = 1024
    """Connections of a listener that have brought no request; beyond, the oldest of them is cut."""
    handshake_timeout_s: Seconds = 10
    """From a connection to a whole request head on it, on both listeners."""
    ping_interval_s: Annotated[float, Meta(gt=0)] = 20
    """How often a client of the native socket is pinged ..."""
    ping_timeout_s: Annotated[float, Meta(gt=0)] = 20
    """... and how long it may take to answer."""

    # --- utterances ---
    vad: Literal["webrtc+silero", "webrtc", "silero"] = "webrtc+silero"
    vad_aggressiveness: Annotated[int, Meta(ge=0, le=3)] = 2
    """Mode of the webrtcvad gate: higher lets less through."""
    segment_open_ms: Milliseconds = _SEGMENTER.open_ms
    segment_close_ms: Milliseconds = _SEGMENTER.close_ms
    segment_lead_ms: Milliseconds = _SEGMENTER.lead_ms
    segment_split_ms: Milliseconds = _SEGMENTER.split_ms

    # --- speakers ---
    identify_after_ms: Milliseconds = _ANALYSIS.identify_after_ms
    """Net speech that is first identified."""
    identify_every_ms: Milliseconds = _ANALYSIS.identify_every_ms
    """Net speech between identifications of one long segment."""
    voiceprint_model: Literal["campplus", "ge2e"] = "campplus"
    """What makes voice prints here; voices enrolled with the other one are kept, and found again when it is back."""
    voiceprint_norm: Literal["none", "as"] = "none"
    """Whether recognise orders voices by cosine, or (AS-norm) beside the app's other voices; scores stay cosines."""
    speaker_score: Score = 0
    """A voice is known from this score (100 x cosine) ...; 0: as measured for `voiceprint_model`, 50 for campplus."""
    speaker_score_8k: Score = 0
    """... and on 8 kHz lines from this; 0: as measured, 55 for campplus."""
    speaker_margin: Score = _SPEAKER.margin
    """A known voice beats the second by this."""
    sounds: bool = True
    """Our own voiceprint service also enrols and finds sounds that are no speech (instruments, animals, surroundings),
    with the recogniser whisper-base; off, or with another recogniser, it refuses them. Calls never score them."""
    index_calls: bool = True
    """Listen to calls that have ended, so that a voice can be found in them (docs/passages.md)."""
    voiceprint_url: str = ""
    """Base URL of a voiceprint service; empty: our own."""
    voiceprint_app: str = ""
    """Credentials for it: "appid:secret"."""

    # --- words and rules ---
    recognizer: Literal["whisper-base", "whisper-tiny.en"] = "whisper-base"
    live_text: bool = True
    """Recognise words while calls are on. Off: no engine is loaded for it, and live rules see a softphone's own words
    only; voice QC transcribes recordings all the same."""
    recognizer_processes: Count = 0
    """Engine processes for recognition; 0: one for each processor."""
    partial_hop_ms: Milliseconds = _ANALYSIS.partial_hop_ms
    """An open segment's text is renewed this often while capacity allows; 0: only at pauses and at the end."""
    rule_scope: Literal["recording", "sentence"] = "recording"
    pinyin: bool = True
    """Match Chinese keywords on toneless pinyin too, in live text."""
    quality_url: str = ""
    """Base URL of a voice QC service; empty: our own."""
    quality_app: str = ""
    """Credentials for it: "client_id:client_secret"."""
    quality_folder: str = ""
    """Folder in which our own voice QC keeps recordings until they are judged; default `quality` in the data folder.
    With `redis_url`, servers and workers that reach the same folder share their tasks."""
    quality_simplified: bool = False
    """Show voice QC's Chinese text in simplified characters; else as the recogniser wrote it. Rules match either."""
    quality_workers: Count = 1
    """Tasks of our own voice QC that the server works on at a time; 0: none, `earshot worker` does them."""
    qc_poll_s: Seconds = 1.0
    """How often voice QC is asked for a result."""
    rules_sync_s: Seconds = 300
    """How often, and at the start, the rules of the service at quality_url are taken over; 0: never."""

    def __post_init__(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together")
        for name in ("http", "ws"):
            parse_address(name, getattr(self, name))
        for name in ("voiceprint", "quality"):
            if getattr(self, f"{name}_url") and ":" not in getattr(self, f"{name}_app"):
                raise ValueError(f"{name}_url needs {name}_app, as appid:secret")
        parse_apps(self.apps)
        parse_fetch_allow(self.fetch_allow)
        parse_quotas(self.quotas)
        parse_origins(self.origins)
        if self.public_ws_url and not self.public_ws_url.startswith(("ws://", "wss://")):
            raise ValueError("public_ws_url must look like wss://host or ws://host:port")
        self._check_cluster()

    def _check_cluster(self) -> None:
        if self.ack == "replica" and not self.redis_url:
            raise ValueError("ack is replica, which needs redis_url")
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("redis_url must look like redis://host:6379/0, rediss://... or unix:///path")
        if self.redis_url and not self.cluster_key:
            raise ValueError(
                "redis_url needs cluster_key, the same on every node: what one node signs the others must accept. "
                "Make one with: openssl rand -hex 32"
            )
        if self.cluster_key and len(self.cluster_key) < 32:
            raise ValueError("cluster_key is shorter than 32 characters; make one with: openssl rand -hex 32")

    @property
    def known_score(self) -> float:
        """From where a voice of wide-band audio is known."""
        return self.speaker_score or KNOWN_SCORES[self.voiceprint_model][0]

    @property
    def known_score_8k(self) -> float:
        """From where a voice on a telephone line is known."""
        return self.speaker_score_8k or KNOWN_SCORES[self.voiceprint_model][1]

    @property
    def replicated(self) -> bool:
        """Whether an ack says that audio is in Redis too."""
        return bool(self.redis_url) and self.ack != "local"

    @property
    def models_path(self) -> Path:
        return Path(self.models_dir) if self.models_dir else user_cache_path("earshot") / "models"

    @property
    def quality_path(self) -> Path:
        return Path(self.quality_folder) if self.quality_folder else self.data_path / "quality"

    @property
    def shared_recordings(self) -> Path | None:
        """The folder of recordings, if it is not the data folder's own."""
        return Path(self.recordings_folder) if self.recordings_folder else None

    @property
    def data_path(self) -> Path:
        return Path(self.data)


def parse_address(name: str, address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises ValueError naming the setting."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{name} is {address!r}; expected host:port, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; names other than localhost are taken for reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def in_url(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def parse_apps(apps: str) -> dict[str, tuple[str, ...]]:
    """Secrets by app id, of "appid:secret,appid:secret". Raises ValueError."""
    parsed: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in apps.split(","))):
        app_id, colon, secret = entry.partition(":")
        if not (app_id and colon and secret):
            raise ValueError("apps must look like appid:secret,appid:secret")
        parsed[app_id] = (*parsed.get(app_id, ()), secret)
    return parsed


@dataclass(frozen=True, slots=True)
class FetchAllowed:
    """Addresses inside our own network that a request may name."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    port: int | None
    """None: any."""

    def covers(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
        return address in self.network and self.port in (None, port)


def parse_fetch_allow(text: str) -> tuple[FetchAllowed, ...]:
    """The entries of "10.1.0.0/16:8443,fd00::/8:*". Raises ValueError naming the one at fault."""
    parsed = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        network, _, port = entry.rpartition(":")
        try:
            known_port = port == "*" or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
            if not known_port or "/" not in network:
                raise ValueError("wrong form")  # noqa: TRY301 - told together with what ip_network refuses
            parsed.append(FetchAllowed(ipaddress.ip_network(network), None if port == "*" else int(port)))
        except ValueError as fault:
            raise ValueError(f"fetch_allow has {entry!r}; expected CIDR:port, such as 10.1.0.0/16:8443") from fault
    return tuple(parsed)


_QUOTA_UNITS: dict[str, tuple[Product, int]] = {
    "quality_s": ("quality_ms", 1000),
    "voiceprint_requests": ("voiceprint_requests", 1),
}


def parse_quotas(text: str) -> Quotas:
    """The entries of "quality_s=3600,shop:voiceprint_requests=100". Raises ValueError naming the one at fault."""
    by_app: dict[tuple[str, Product], int] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        whose, equals, amount = entry.rpartition("=")
        app_id, colon, name = whose.rpartition(":")
        unit = _QUOTA_UNITS.get(name)
        wrong_app = bool(colon) and not app_id
        if not equals or unit is None or wrong_app or not (amount.isascii() and amount.isdigit() and len(amount) < 13):
            raise ValueError(
                f"quotas has {entry!r}; expected quality_s=3600 or voiceprint_requests=100, with an app id and a colon "
                "before it for one app"
            )
        product, factor = unit
        if (app_id, product) in by_app:
            raise ValueError(f"quotas says twice what {app_id or 'every app'} may use of {name}")
        by_app[app_id, product] = int(amount) * factor
    return Quotas(by_app)


class SettingsError(Exception):
    """A setting cannot be used; the text names it, where it came from and what was expected."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings in force, and where each that is no default came from."""

    settings: Settings
    sources: dict[str, str]


def load(
    file: Path | None, environment: Mapping[str, str] = os.environ, overrides: Mapping[str, Any] | None = None
) -> LoadedSettings:
    """The settings from `file` (TOML), then the environment, then `overrides` (the command line; None values skip).

    Without `file`, `EARSHOT_CONFIG` names one, else `earshot.toml` is taken if it is there. Raises SettingsError.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    named = file or (Path(environment[PREFIX + "CONFIG"]) if environment.get(PREFIX + "CONFIG") else None)
    path = named or Path("earshot.toml")
    if named or path.exists():
        _merge(_read(path), str(path), values, sources)
    variables = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in environment.items()
        if key.startswith(PREFIX) and key != PREFIX + "CONFIG"
    }
    _merge(variables, "environment", values, sources)
    _merge({key: value for key, value in (overrides or {}).items() if value is not None}, "command", values, sources)
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        # What settings ask of one another: name where those came from that the text speaks of.
        concerned = [f"{key} from {sources[key]}" for key in sources if re.search(rf"\b{key}\b", str(error))]
        raise SettingsError(f"bad settings: {error} ({', '.join(concerned)})") from error
    return LoadedSettings(settings, sources)


def _merge(new: Mapping[str, Any], source: str, values: dict[str, Any], sources: dict[str, str]) -> None:
    for key, value in new.items():
        if key not in Settings.__struct_fields__:
            raise SettingsError(f"{source}: no setting is named {key!r}; `earshot doctor` lists them all")
        kind = next(one.type for one in msgspec.structs.fields(Settings) if one.name == key)
        try:
            # One field at a time, so that an error can name its source.
            values[key] = msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            given = "a value that is kept secret" if key in SECRET else repr(value)
            choices = f"; expected one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
            raise SettingsError(f"{source}: {key}: {error}{choices} (given {given})") from error
        sources[key] = source


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
