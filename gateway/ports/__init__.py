"""The roles that the rest of Earshot needs filled, as Protocols, and the values that cross them.

Only `gateway/app.py` names who fills a role. Every PCM argument is signed 16-bit little-endian, mono unless its
docstring says otherwise; the rate stands beside it. Every method that can wait is `async` and may raise `Rejected` or
`Unavailable`, which say whose fault it was.
"""

from gateway.ports.calls import CallRecord, CallState, CallStore, Journal, TaskQueue
from gateway.ports.cluster import (
    CallLeases,
    CallReplica,
    CallTail,
    HeldCall,
    LateParts,
    Lease,
    Progress,
    Renewal,
    TailPart,
    TailReceipt,
    TakeOver,
)
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
    RuleSource,
    StoredCategory,
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
    "CallLeases",
    "CallRecord",
    "CallReplica",
    "CallState",
    "CallStore",
    "CallTail",
    "Candidate",
    "Clock",
    "DecodedAudio",
    "Decoder",
    "Denoiser",
    "Embedder",
    "Embedding",
    "FetchedFile",
    "Fetcher",
    "HeldCall",
    "Journal",
    "Language",
    "LateParts",
    "Lease",
    "PortError",
    "Progress",
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
    "Renewal",
    "RuleBooks",
    "RuleSource",
    "SpeechConfirmer",
    "SpeechProbabilities",
    "StoredCategory",
    "TailPart",
    "TailReceipt",
    "TakeOver",
    "TaskQueue",
    "TranscribeRequest",
    "Transcription",
    "Unavailable",
    "VoiceprintApi",
    "VoiceprintRow",
    "VoiceprintStore",
    "Word",
]
