"""Acknowledges audio before it is safe."""

from gateway.stores.journal import FileJournal


async def _at_once(self: FileJournal, position: int) -> None: ...


def break_it() -> None:
    FileJournal.synced = _at_once  # type: ignore[method-assign]
