"""Journals of processes there are no more are taken up by somebody."""

from pathlib import Path

from gateway.stores.journal_folders import gather_journals, ingest_folder


def journal(data: Path, worker: int, name: str) -> None:
    folder = ingest_folder(data, worker) / "journal" / name
    folder.mkdir(parents=True)
    (folder / "000001.log").write_text(name)


def journals(data: Path, worker: int) -> set[str]:
    return {path.parent.name for path in (ingest_folder(data, worker) / "journal").glob("*/*.log")}


def test_the_first_worker_gets_the_journals_of_those_beyond_the_number(tmp_path: Path) -> None:
    for worker, name in ((1, "a"), (2, "b"), (3, "c"), (3, "d"), (12, "e")):
        journal(tmp_path, worker, name)
    assert gather_journals(tmp_path, 2) == 3
    assert journals(tmp_path, 1) == {"a", "c", "d", "e"}
    assert journals(tmp_path, 2) == {"b"}
    assert gather_journals(tmp_path, 1) == 1
    assert journals(tmp_path, 1) == {"a", "b", "c", "d", "e"}
    assert gather_journals(tmp_path, 1) == 0


def test_a_folder_without_workers_is_left_as_it_is(tmp_path: Path) -> None:
    assert gather_journals(tmp_path, 4) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_was_cut_short_goes_on(tmp_path: Path) -> None:
    journal(tmp_path, 1, "a")
    journal(tmp_path, 5, "b")
    journal(tmp_path, 5, ".new-c")  # never finished: nobody's
    assert gather_journals(tmp_path, 1) == 1
    assert journals(tmp_path, 1) == {"a", "b"}
