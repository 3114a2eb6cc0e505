"""Acknowledges audio that nothing but this process's memory holds."""

from gateway.stores.commit_log import CommitLog
from tests.faults.mutants import early_ack


def _later(self: CommitLog) -> None: ...


def break_it() -> None:
    early_ack.break_it()
    # An ack is journalled before it is sent, and takes the audio before it along to the page cache.
    CommitLog.write_through = _later  # type: ignore[method-assign]
