"""Made-up audio for tests of the core: loudness stands for speech, so that a gate needs no model."""

import numpy as np

from gateway.call.effects import ConfirmSpeech, Effect, Send
from gateway.call.events import SpeechConfirmed
from gateway.call.machine import Call
from gateway.call.settings import CallSettings, CallTerms
from gateway.call.vad import Gate
from protocol.audio import AudioFormat
from protocol.messages import ServerMessage, Start
from protocol.rules.matcher import RuleSet

RATE_HZ = 8000
FRAME = RATE_HZ // 50


class LoudnessGate(Gate):
    """Calls a frame speech when it is loud."""

    def __init__(self, rate_hz: int, aggressiveness: int = 2) -> None:
        self.rate_hz = rate_hz

    def is_speech(self, frame: bytes) -> bool:
        return loud(frame)


def loud(pcm: bytes) -> bool:
    return bool(np.abs(np.frombuffer(pcm, dtype="<i2").astype(np.int32)).mean() > 500) if pcm else False


def voice(ms: int, seed: int = 1) -> bytes:
    """Loud noise of one channel."""
    generator = np.random.default_rng(seed)
    return generator.integers(-8000, 8000, ms * RATE_HZ // 1000, dtype=np.int16).tobytes()


def silence(ms: int) -> bytes:
    return bytes(2 * ms * RATE_HZ // 1000)


def stereo(left: bytes, right: bytes) -> bytes:
    planes = [np.frombuffer(side, dtype="<i2") for side in (left, right)]
    return np.stack(planes, axis=1).tobytes()


def confirmed(effect: ConfirmSpeech) -> SpeechConfirmed:
    """What a perfect model answers."""
    window = 2 * 32 * RATE_HZ // 1000
    probabilities = tuple(
        0.99 if loud(effect.pcm[at : at + window]) else 0.01 for at in range(0, len(effect.pcm), window)
    )
    return SpeechConfirmed(effect.channel, effect.ordinal, probabilities)


def quiet(ms: int, seed: int = 1) -> bytes:
    """Noise that no gate lets through."""
    generator = np.random.default_rng(seed)
    return generator.integers(-100, 100, ms * RATE_HZ // 1000, dtype=np.int16).tobytes()


def make_call(rules: RuleSet | None = None, settings: CallSettings | None = None, **start: object) -> Call:
    terms = CallTerms.of("c1", Start(rate=8000, **start))  # type: ignore[arg-type]
    assert terms.audio == AudioFormat("pcm_s16le", RATE_HZ, terms.audio.channels)
    return Call(terms, settings or CallSettings(gate=LoudnessGate), rules or RuleSet([], pinyin=True))


def make_call_with_versions(*versions: RuleSet) -> Call:
    """A call under the first of these rules; `RulesChanged` may name any of them."""
    by_digest = {rules.digest: rules for rules in versions}
    terms = CallTerms.of("c1", Start(rate=8000))
    return Call(terms, CallSettings(gate=LoudnessGate), versions[0], by_digest.__getitem__)


def sent(effects: list[Effect]) -> list[ServerMessage]:
    return [effect.message for effect in effects if isinstance(effect, Send)]
