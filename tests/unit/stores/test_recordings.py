from pathlib import Path

import pytest

from gateway.stores.recordings import CHUNK_BYTES, Recordings


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    (tmp_path / "recordings").mkdir()
    return Recordings(tmp_path)


def test_any_range_of_a_recording_is_read_in_bounded_chunks(recordings: Recordings) -> None:
    data = bytes(range(256)) * 1000
    recordings.path("c").write_bytes(data)
    chunks = list(recordings.read("c"))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) == CHUNK_BYTES
    assert b"".join(recordings.read("c", 5, 9)) == data[5:9]
    assert b"".join(recordings.read("c", len(data) - 3, len(data) + 10)) == data[-3:]
    assert recordings.size_bytes("c") == len(data)


def test_a_deleted_recording_is_gone_but_whoever_reads_it_reads_on(recordings: Recordings) -> None:
    recordings.path("c").write_bytes(b"abc")
    reading = recordings.read("c")
    assert recordings.delete("c")
    assert not recordings.delete("c")
    assert b"".join(reading) == b"abc"
    assert recordings.size_bytes("c") is None
    with pytest.raises(FileNotFoundError):
        recordings.read("c")


@pytest.mark.parametrize("call_id", ["../x", "/etc/passwd", "a/../b", "a\0", "", "%2e%2e", "x" * 10_000, "\u202ex"])
def test_a_name_that_is_no_call_id_never_becomes_a_path(recordings: Recordings, call_id: str) -> None:
    for touch in (recordings.path, recordings.size_bytes, recordings.read, recordings.delete):
        with pytest.raises(ValueError, match="call id"):
            touch(call_id)


def test_a_link_in_the_folder_is_not_followed(recordings: Recordings, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    recordings.path("c").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        recordings.read("c")
