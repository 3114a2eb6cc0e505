"""The states of a call as the documents show them, drawn from the one table that decides."""

from __future__ import annotations

from gateway.call.states import TRANSITIONS, State

BY_ITSELF = {
    State.SETTLING: {State.JUDGING: "all is said", State.ENDED: "all is said, the verdict is in"},
}
"""What `machine.Call` does without an event of its own: see the note below `TRANSITIONS`."""


def mermaid() -> str:
    """A Mermaid state diagram of every transition that changes the state."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for event, moves in TRANSITIONS.items():
        for before, after in moves.items():
            if before is not after:
                arrows.setdefault((before, after), []).append(event.__name__)
    for before, ends in BY_ITSELF.items():
        for after, why in ends.items():
            arrows.setdefault((before, after), []).append(why)
    lines = [f"    {before.value} --> {after.value}: {', '.join(names)}" for (before, after), names in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.NEW.value}", *lines, f"    {State.ENDED.value} --> [*]"])


def table() -> str:
    """A Markdown table: which event may happen in which state, and the state after it."""
    states = list(State)
    rows = [["event", *(state.value for state in states)], ["---"] * (len(states) + 1)]
    for event, moves in TRANSITIONS.items():
        rows.append([event.__name__, *(moves[state].value if state in moves else "" for state in states)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
