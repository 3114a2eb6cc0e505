"""The rules of a voice QC vendor, for calls to be judged by while they run: pulled from there, and pushed to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from gateway.ports import Rejected, StoredCategory, VendorRules
from protocol.quality import ErrorCode
from protocol.rules.book import MAX_CATEGORIES, AnyContent, examined, plain

PAGE_SIZE = 100
_EXISTS, _UNKNOWN = (str(int(code)) for code in (ErrorCode.CATEGORY_EXISTS, ErrorCode.CATEGORY_UNKNOWN))


class VendorRulebook:
    """What the vendor has. Of a category only its plain strings are the vendor's: others it does not know."""

    def __init__(self, vendor: VendorRules) -> None:
        self._vendor = vendor
        self.changing = asyncio.Lock()
        """Held over a pull, and over a push with what is kept of it here: else the one would undo the other."""

    async def push(self, app_id: str, before: StoredCategory | None, after: StoredCategory) -> StoredCategory:
        """Give the vendor the plain strings of a category before it counts here; `after` with where it is kept.

        Raises what the vendor does.
        """
        texts = plain(after.contents)
        if not texts:
            if before is not None:
                await self.forget(app_id, before)
            return after
        rule = StoredCategory(after.category, after.description, texts)
        known = before is not None and before.at_vendor
        verbs = self._vendor.add_rule, self._vendor.modify_rule
        first, second = reversed(verbs) if known else verbs
        try:
            await first(app_id, rule)
        except Rejected as fault:
            if fault.code not in (_EXISTS, _UNKNOWN):
                raise
            await second(app_id, rule)  # somebody added or deleted it there
        return StoredCategory(after.category, after.description, after.contents, at_vendor=True)

    async def forget(self, app_id: str, category: StoredCategory) -> None:
        """Delete a category at the vendor, if it is there. Raises what the vendor does."""
        if not category.at_vendor:
            return
        try:
            await self._vendor.delete_rule(app_id, category.category)
        except Rejected as fault:
            if fault.code != _UNKNOWN:
                raise

    async def listed(self, app_id: str) -> tuple[list[StoredCategory], list[str]]:
        """All categories of the vendor, and what of them cannot be read, which is left out. Raises what it does."""
        found: dict[str, StoredCategory] = {}
        for page_no in range(1, MAX_CATEGORIES // PAGE_SIZE + 1):
            total, page = await self._vendor.rules(app_id, page_no=page_no, page_size=PAGE_SIZE)
            found |= {one.category: one for one in page}
            if not page or page_no * PAGE_SIZE >= total:
                break
        return await asyncio.to_thread(_readable, list(found.values()))


def _readable(categories: Iterable[StoredCategory]) -> tuple[list[StoredCategory], list[str]]:
    readable: list[StoredCategory] = []
    unreadable: list[str] = []
    for one in categories:
        _, faults = examined({"category": one.category, "contents": list(one.contents)})
        unreadable += [str(fault) for fault in faults]
        wrong = {fault.index for fault in faults}
        good = tuple(text for index, text in enumerate(one.contents) if index not in wrong and None not in wrong)
        readable += [StoredCategory(one.category, one.description, good, at_vendor=True)] if good else []
    return readable, unreadable


def merged(own: Sequence[StoredCategory], theirs: Sequence[StoredCategory]) -> list[StoredCategory]:
    """What holds here once the vendor's list has been pulled: the vendor wins over what it may know of.

    Contents with options stay, and so does a category that has never been at the vendor.
    """
    ours = {one.category: one for one in own}
    found = {one.category: one for one in theirs}
    result = []
    for one in own:
        at_vendor = found.get(one.category)
        if at_vendor is not None:
            contents = _with_options_of(one, at_vendor.contents)
            result.append(StoredCategory(one.category, at_vendor.description, contents, at_vendor=True))
        elif not one.at_vendor:
            result.append(one)
        elif left := _with_options_of(one, ()):
            result.append(StoredCategory(one.category, one.description, left))
    return [*result, *(one for one in theirs if one.category not in ours)]


def _with_options_of(one: StoredCategory, texts: Sequence[AnyContent]) -> tuple[AnyContent, ...]:
    return (*texts, *(content for content in one.contents if not isinstance(content, str)))
