"""Whoever ends a task of voice QC ends it, whether it is still theirs or not."""

from gateway.ports import QualityJob
from gateway.stores.quality import SqliteQualityTasks


def break_it() -> None:
    fenced = SqliteQualityTasks.finish

    async def finish(
        self: SqliteQualityTasks, job: QualityJob, state: int, reason: str, result: bytes | None, *, billed_ms: int = 0
    ) -> bool:
        await self._database.run(
            lambda db: db.execute(
                "UPDATE quality_tasks SET claim = ?, state = 1 WHERE ticket = ?", (job.claim, job.ticket)
            )
        )
        return await fenced(self, job, state, reason, result, billed_ms=billed_ms)

    async def kept(self: SqliteQualityTasks, job: QualityJob, *_: int) -> bool:
        return True

    SqliteQualityTasks.finish = finish  # type: ignore[method-assign]
    SqliteQualityTasks.renew = kept  # type: ignore[method-assign]
    SqliteQualityTasks.advance = kept  # type: ignore[method-assign, assignment]
