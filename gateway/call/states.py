"""The states of a call, and what may happen in each: one table. `docs/protocol.md` draws it."""

from __future__ import annotations

from enum import Enum

from gateway.call.events import (
    Accepted,
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    HungUp,
    Identified,
    LoadChanged,
    Noted,
    NumbersSkipped,
    Paused,
    QcJudged,
    QcProgressed,
    QcWaitExpired,
    RulesChanged,
    SettlingExpired,
    SpeechConfirmed,
    Transcribed,
    Updated,
    Warned,
)


class State(Enum):
    NEW = "new"
    LIVE = "live"
    PAUSED = "paused"
    SETTLING = "settling"
    """Hung up; the words and speakers of the last seconds are still being found."""
    JUDGING = "judging"
    """Voice QC has the recording."""
    ENDED = "ended"


N, L, P, S, J, E = State
_ANSWERS: dict[type[Event], tuple[State, ...]] = {
    # Engines answer late, storing goes on, rules change: legal everywhere; after SETTLING they change nothing any more.
    AudioStored: (L, P, S, J, E),
    SpeechConfirmed: (L, P, S, J, E),
    Identified: (L, P, S, J, E),
    Transcribed: (L, P, S, J, E),
    RulesChanged: (L, P, S, J, E),
    Warned: (L, P, S, J, E),
    # A call that goes on after a crash of the machine steps over the numbers that the crash has taken.
    NumbersSkipped: (L, P, S, J, E),
    Noted: (L, P, S, J, E),
    LoadChanged: (L, P, S, J, E),
}
TRANSITIONS: dict[type[Event], dict[State, State]] = {
    **{event: {state: state for state in states} for event, states in _ANSWERS.items()},
    Accepted: {N: L},
    AudioArrived: {L: L, P: P},
    AudioLost: {L: L, P: P},
    ClientSpoke: {L: L},
    Updated: {L: L, P: P},
    Paused: {L: P},
    Continued: {P: L},
    HungUp: {N: E, L: S, P: S, S: S, J: J, E: E},
    SettlingExpired: {S: S, J: J, E: E},
    QcProgressed: {S: S, J: J, E: E},
    QcJudged: {S: S, J: E, E: E},
    QcWaitExpired: {S: S, J: E, E: E},
}
"""event -> {state before: state after}. SETTLING becomes JUDGING by itself with the last answer it waits for, and
ENDED at once if the verdict, or the end of the client's patience, came before that."""


class IllegalEvent(Exception):
    """The call's state does not allow this event; nothing changed."""

    def __init__(self, event: Event, state: State) -> None:
        self.event_name = type(event).__name__
        self.state = state
        super().__init__(f"{self.event_name} cannot happen while the call is {state.value}")
