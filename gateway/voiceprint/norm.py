"""AS-norm: how much more alike two prints are than each of them is to the strangers closest to it.

Matejka et al. 2017, "Analysis of Score Normalization in Multilingual Speaker Recognition". The strangers, the cohort,
are the app's other voices. Off by default: with few of them it ranks worse (BENCHMARKS.md, voice prints).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.ports import Embedding
from gateway.voiceprint.search import Hit

CLOSEST = 20
"""So many of the cohort count. With fewer strangers there is nothing to norm by."""
MOST = 1000
"""The cohort is the app's voices enrolled first, at most so many."""
_LEAST_DEVIATION = 1e-3


class Cohorts:
    """The prints of one embedding space by app, of all its organisations and tags. Takes 4 bytes a number."""

    def __init__(self) -> None:
        self._prints: dict[str, dict[str, Embedding]] = {}

    def add(self, app_id: str, print_id: str, vector: Embedding) -> None:
        self._prints.setdefault(app_id, {})[print_id] = vector

    def remove(self, app_id: str, print_ids: Iterable[str]) -> None:
        """Forget prints; the ids that are not there are ignored."""
        prints = self._prints.get(app_id, {})
        for print_id in print_ids:
            prints.pop(print_id, None)
        if not prints:
            self._prints.pop(app_id, None)

    def normed(self, app_id: str, asked: Embedding, hits: Sequence[Hit]) -> list[float] | None:
        """For each hit of a search for `asked`, its cosine in deviations from those of strangers.

        None where the app has too few voices for that.
        """
        prints = self._prints.get(app_id, {})
        ids = list(prints)[:MOST]
        if len(ids) <= CLOSEST:
            return None
        cohort = np.stack([prints[one] for one in ids])
        of_asked = cohort @ asked
        places = {one: at for at, one in enumerate(ids)}
        scores = []
        for hit in hits:
            found = prints.get(hit.entry.print_id)
            if found is None:  # deleted since the search began
                scores.append(-np.inf)
                continue
            own = places.get(hit.entry.print_id)
            scores.append(sum(_deviations(hit.cosine, side, own) for side in (of_asked, cohort @ found)) / 2)
        return scores


def _deviations(cosine: float, others: NDArray[np.float32], own: int | None) -> float:
    strangers = others if own is None else np.delete(others, own)
    closest = np.partition(strangers, -CLOSEST)[-CLOSEST:]
    return (cosine - float(closest.mean())) / max(float(closest.std()), _LEAST_DEVIATION)
