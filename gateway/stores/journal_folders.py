"""Where each ingest process of a data folder has its journal, and what becomes of those of processes there are no more.

All that is known of a call is in the journals of one folder: whoever takes a folder up has the whole of each call, and
no two processes ever find the same one.
"""

from __future__ import annotations

from pathlib import Path

from gateway.stores.durable_files import make_directory, sync_directory


def ingest_folder(data: Path, worker: int) -> Path:
    """The folder of a worker, counted from 1; the first has that of a server of one process."""
    return data if worker == 1 else data / "workers" / str(worker)


def gather_journals(data: Path, workers: int) -> int:
    """Give the first worker the journals of those beyond `workers`; how many there were.

    Only while no process has any of them: the data folder is ours, and whoever has a journal keeps the folder. What
    was interrupted is done by the next call. Blocking. Raises OSError.
    """
    own = ingest_folder(data, 1) / "journal"
    moved = 0
    for folder in sorted((data / "workers").glob("*/journal")):
        name = folder.parent.name
        if name.isdigit() and 1 < int(name) <= workers:
            continue
        journals = [journal for journal in folder.glob("[!.]*") if journal.is_dir()]
        if journals:
            make_directory(own)
        for journal in journals:
            journal.rename(own / journal.name)  # random names: none is taken
        if journals:
            sync_directory(own)
            sync_directory(folder)
        moved += len(journals)
    return moved
