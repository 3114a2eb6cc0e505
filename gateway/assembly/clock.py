"""The machine's clocks, as the role Clock."""

from time import monotonic, time


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return monotonic()

    def wall(self) -> float:
        return time()
