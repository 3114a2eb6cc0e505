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


# --- a folder that nodes share -----------------------------------------------------------------------------------


def shared_by_two(tmp_path: Path) -> tuple[Recordings, Recordings]:
    folder = tmp_path / "shared"
    folder.mkdir()
    one, two = (Recordings(tmp_path / name, folder, node_mark=name) for name in ("one", "two"))
    return one, two


def test_a_node_that_lost_a_call_cannot_put_its_part_in_the_place_of_the_whole(tmp_path: Path) -> None:
    one, two = shared_by_two(tmp_path)
    one.sealing_path("c").write_bytes(b"the beginning")
    two.sealing_path("c").write_bytes(b"the whole call")
    assert not two.path("c").exists()
    assert two.publish("c").read_bytes() == b"the whole call"
    assert two.publish("c").read_bytes() == b"the whole call", "again does nothing"
    assert one.give_up("c")
    assert not one.give_up("c")
    assert [path.name for path in one.root.iterdir()] == ["c.wav"]
    assert one.path("c").read_bytes() == b"the whole call"
    assert one.last_written().keys() == {"c"}
    assert one.delete("c")
    assert two.size_bytes("c") is None


def test_what_was_not_sealed_cannot_be_published(tmp_path: Path) -> None:
    one, _ = shared_by_two(tmp_path)
    with pytest.raises(FileNotFoundError):
        one.publish("c")


def test_what_a_process_left_half_written_goes_at_the_next_start_of_its_node_alone(tmp_path: Path) -> None:
    one, two = shared_by_two(tmp_path)
    for node in (one, two):
        node.sealing_path("c").write_bytes(b"half")
    one.tidy()
    assert not one.sealing_path("c").exists()
    assert two.sealing_path("c").exists()
    assert two.last_written() == {}


def test_recordings_from_before_the_folder_was_shared_are_found_where_they_are(tmp_path: Path) -> None:
    before = Recordings(tmp_path / "one")
    before.root.mkdir(parents=True)
    before.path("old").write_bytes(b"abc")
    one, two = shared_by_two(tmp_path)
    assert (one.size_bytes("old"), two.size_bytes("old")) == (3, None)
    assert one.last_written().keys() == {"old"}
    assert one.delete("old")
    assert not before.path("old").exists()


def test_alone_a_recording_has_its_name_at_once(recordings: Recordings) -> None:
    assert recordings.sealing_path("c") == recordings.path("c")
    recordings.path("c").write_bytes(b"abc")
    assert recordings.publish("c") == recordings.path("c")
