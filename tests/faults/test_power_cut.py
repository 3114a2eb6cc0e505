"""The power fails: what nobody had synced is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.faults.accounts import Outcome, account_for
from tests.faults.calls import NOBODY_COMES_BACK, killed_mid_call
from tests.faults.disks import powerless_disk
from tests.faults.ledger import Ledger
from tests.faults.servers import Serve
from tests.faults.vendor import vendor_open


async def cut_the_power(serve: Serve, tmp_path: Path, seed: int, cuts: int, mutant: str = "") -> Outcome:
    """Run calls on a disk image, stop everything at a random moment, and start again from what the image holds."""
    random = Random(seed)
    outcome = Outcome(note=f"seed {seed}")
    async with vendor_open() as vendor:
        start = partial(serve, mutant=mutant, environment=vendor.environment | NOBODY_COMES_BACK)
        # A cut before the first ack says nothing.
        while outcome.tried < cuts or not outcome.acked_samples:
            with powerless_disk(tmp_path / f"disk-{outcome.tried}") as disk:
                before = await asyncio.to_thread(start, str(disk.path / "data"))
                phones = await killed_mid_call(before, random)
                after = await asyncio.to_thread(start, str(disk.after_power_cut() / "data"))
                await account_for(outcome, after, phones, vendor, patience_s=2 if mutant else 60)
                after.kill()
            outcome.tried += 1
    return outcome


@pytest.mark.row(18)
@pytest.mark.timeout(600)
async def test_a_power_cut_costs_no_acked_sample(
    serve: Serve, ledger: Ledger, seed: int, tmp_path: Path, tries: Callable[[int, int], int]
) -> None:
    (await cut_the_power(serve, tmp_path, seed, tries(1, 25))).enter(
        ledger, 18, "power cut at a random point of a call"
    )


@pytest.mark.row(18)
async def test_that_check_sees_a_missing_sync(serve: Serve, tmp_path: Path) -> None:
    assert (await cut_the_power(serve, tmp_path, 5, 1, "no_fsync")).lost_samples > 0


@pytest.mark.full
@pytest.mark.row(18)
async def test_that_check_sees_an_ack_that_comes_too_early(serve: Serve, tmp_path: Path) -> None:
    assert (await cut_the_power(serve, tmp_path, 5, 2, "early_ack")).lost_samples > 0
