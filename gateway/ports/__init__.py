"""The roles that the rest of Earshot needs filled, as Protocols, and the values that cross them.

Only `gateway/app.py` names who fills a role. Every PCM argument is signed 16-bit little-endian, mono unless its
docstring says otherwise; the rate stands beside it. Every method that can wait is `async` and may raise `Rejected` or
`Unavailable`, which say whose fault it was.
"""

from gateway.ports.calls import CallRecord, CallState, CallStore, Journal, RuleOutcomes, RuleTrack, TaskQueue
from gateway.ports.errors import PortError, Rejected, Unavailable
from gateway.ports.outside import Clock, FetchedFile, Fetcher
from gateway.ports.quality import (
    PushState,
    QualityAnswer,
    QualityApi,
    QualityJob,
    QualityPush,
    QualityPushes,
    QualityRecord,
    QualityRules,
    QualityTask,
    QualityTasks,
    RuleBooks,
    RulesMoved,
    RuleSource,
    RuleVersions,
    StoredCategory,
    VendorRules,
)
from gateway.ports.speech import (
    DecodedAudio,
    Decoder,
    Denoiser,
    Embedder,
    Embedding,
    Recognizer,
    SpeechConfirmer,
    SpeechProbabilities,
    TranscribeRequest,
    Transcription,
    Word,
)
from gateway.ports.voiceprint import Candidate, VoiceprintApi, VoiceprintRow, VoiceprintStore
from protocol.messages import Language

__all__ = [
    "CallRecord",
    "CallState",
    "CallStore",
    "Candidate",
    "Clock",
    "DecodedAudio",
    "Decoder",
    "Denoiser",
    "Embedder",
    "Embedding",
    "FetchedFile",
    "Fetcher",
    "Journal",
    "Language",
    "PortError",
    "PushState",
    "QualityAnswer",
    "QualityApi",
    "QualityJob",
    "QualityPush",
    "QualityPushes",
    "QualityRecord",
    "QualityRules",
    "QualityTask",
    "QualityTasks",
    "Recognizer",
    "Rejected",
    "RuleBooks",
    "RuleOutcomes",
    "RuleSource",
    "RuleTrack",
    "RuleVersions",
    "RulesMoved",
    "SpeechConfirmer",
    "SpeechProbabilities",
    "StoredCategory",
    "TaskQueue",
    "TranscribeRequest",
    "Transcription",
    "Unavailable",
    "VendorRules",
    "VoiceprintApi",
    "VoiceprintRow",
    "VoiceprintStore",
    "Word",
]
