"""The marks of a disk that fills."""

from pathlib import Path

import pytest

from gateway.stores.disk_space import MIB, DiskSpace, free_bytes


class Disk:
    def __init__(self) -> None:
        self.free_mib = 10_000
        self.fault: OSError | None = None

    def free(self, _: Path) -> int:
        if self.fault is not None:
            raise self.fault
        return self.free_mib * MIB


@pytest.fixture
def disk() -> Disk:
    return Disk()


def watch(disk: Disk, low_mib: int = 100, warn_mib: int = 400) -> DiskSpace:
    return DiskSpace(Path(), low_bytes=low_mib * MIB, warn_bytes=warn_mib * MIB, free=disk.free)


async def test_space_is_ample_then_warned_of_then_low_and_back_again(disk: Disk) -> None:
    space = watch(disk)
    levels = []
    for free_mib in (10_000, 399, 101, 99, 101, 106, 399, 410, 421):
        disk.free_mib = free_mib
        await space.look()
        levels.append(space.level)
    assert levels == ["ample", "warned", "warned", "low", "low", "warned", "warned", "warned", "ample"]


async def test_only_low_space_refuses_and_says_how_much_there_is(disk: Disk) -> None:
    space = watch(disk)
    disk.free_mib = 300
    await space.look()
    assert space.refusal == ""
    disk.free_mib = 42
    await space.look()
    assert space.refusal == "42 MiB of disk are free, under the low-water mark of 100"


async def test_marks_of_nought_are_never_reached(disk: Disk) -> None:
    space = watch(disk, 0, 0)
    disk.free_mib = 0
    await space.look()
    assert space.level == "ample"


async def test_a_warning_mark_below_the_low_one_counts_as_the_low_one(disk: Disk) -> None:
    space = watch(disk, 100, 10)
    disk.free_mib = 101
    await space.look()
    levels = [space.level]
    disk.free_mib = 50
    await space.look()
    assert [*levels, space.level] == ["ample", "low"]


async def test_a_disk_that_does_not_say_changes_nothing(disk: Disk) -> None:
    space = watch(disk)
    disk.free_mib = 1
    await space.look()
    disk.fault = OSError(5, "Input/output error")
    await space.look()
    assert space.level == "low"


def test_the_free_bytes_are_those_the_file_system_gives_us(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
