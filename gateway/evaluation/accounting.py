"""Whose processor time it was: the server's processes by what they do, and everybody else's on the machine (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
GATEWAY = "gateway"
ENDED = "ended children"
"""Time of children that are gone and were waited for: the decoder takes a fresh process for each file."""
_WORKER = "gateway.engines.worker"


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds (user and system) since the start: by part of the server, of this process, of the whole machine."""

    parts: dict[str, float]
    own_s: float
    machine_s: float

    @property
    def others_s(self) -> float:
        """What is neither the server's nor ours."""
        return self.machine_s - self.own_s - sum(self.parts.values())

    def since(self, earlier: CpuTimes) -> CpuTimes:
        parts = {part: spent_s - earlier.parts.get(part, 0.0) for part, spent_s in self.parts.items()}
        return CpuTimes(parts, self.own_s - earlier.own_s, self.machine_s - earlier.machine_s)


def cpu_times(server_pid: int) -> CpuTimes:
    """Read the accounts of a running server. Raises FileNotFoundError when it is gone."""
    server = _stat(server_pid)
    parts = {GATEWAY: server.self_s, ENDED: server.ended_children_s}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = _stat(int(entry.name))
                command = (entry / "cmdline").read_bytes().decode().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if stat.parent == server_pid:
                part = command[command.index(_WORKER) + 1] if _WORKER in command else "other"
                parts[part] = parts.get(part, 0.0) + stat.self_s
    return CpuTimes(parts, sum(os.times()[:2]), _machine_s())


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    self_s: float
    ended_children_s: float


def _stat(pid: int) -> _Stat:
    # The second field, the name in brackets, may hold spaces (proc_pid_stat(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, user_children, system_children = (int(ticks) / TICKS_PER_S for ticks in fields[11:15])
    return _Stat(int(fields[1]), user + system, user_children + system_children)


def _machine_s() -> float:
    """Time that all processors together were busy: user, nice, system, interrupts (proc_stat(5))."""
    user, nice, system, _idle, _waiting, interrupts, soft = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    )
    return (user + nice + system + interrupts + soft) / TICKS_PER_S
