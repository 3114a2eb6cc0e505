"""Who does what when, and which process carries whom: arithmetic without a clock."""

from __future__ import annotations


def mine(number: int, process: int, processes: int) -> bool:
    """Whether process `process` of so many carries number `number`: they take turns, so that each has its share of any
    stretch of numbers."""
    return number % processes == process


def delays_s(count: int, over_s: float, process: int, processes: int) -> list[float]:
    """When each of `count` changes of one process is due, so that those of all processes together are spread evenly
    over `over_s`: from 0, and always below `over_s` unless that is 0."""
    return [over_s * (at + process / processes) / count for at in range(count)]
