"""Short codes of vectors: product quantisation, four bits for each pair of dimensions, scanned whole.

The scan is that of André, Kermarrec and Le Scouarnec, "Quicker ADC: Unlocking the hidden potential of Product
Quantization with SIMD" (2019), as faiss has it: 48 bytes a vector of 192 dimensions, some 2.5 ns.
"""

from __future__ import annotations

from typing import cast

import faiss
import numpy as np
from numpy.typing import NDArray

CODE_DIMENSIONS = 2
CODE_BITS = 4
TRAINING_ROWS = 16_384

Vectors = NDArray[np.float32] | NDArray[np.float16]
Rows = NDArray[np.int64]
Cosines = NDArray[np.float32]


class Codes:
    """The codes of `rows` vectors. Made and extended in a thread, which takes its time; a row changes in place."""

    def __init__(self, index: faiss.IndexPQFastScan, trained_rows: int) -> None:
        self.index = index
        self.rows: int = index.ntotal
        self.trained_rows = trained_rows
        self.packer = index.get_CodePacker()  # type: ignore[attr-defined] # the library's stubs lack it

    @classmethod
    def trained(cls, vectors: Vectors, live: NDArray[np.bool_]) -> Codes:
        """New codes for all of `vectors`, trained on those that are `live`. Takes a second for a whole block."""
        faiss.omp_set_num_threads(1)
        dimensions = vectors.shape[1]
        index = faiss.IndexPQFastScan(dimensions, dimensions // CODE_DIMENSIONS, CODE_BITS, faiss.METRIC_INNER_PRODUCT)
        there = np.flatnonzero(live)
        index.train(vectors[there[:: max(1, len(there) // TRAINING_ROWS)]].astype(np.float32))
        for begin in range(0, len(vectors), TRAINING_ROWS):
            index.add(vectors[begin : begin + TRAINING_ROWS].astype(np.float32))
        return cls(index, len(vectors))

    def extended(self, vectors: Vectors) -> Codes:
        """A copy with the codes of the next vectors behind; searches may go on over this one."""
        faiss.omp_set_num_threads(1)
        copy = cast(faiss.IndexPQFastScan, faiss.clone_index(self.index))
        copy.add(vectors.astype(np.float32))
        return Codes(copy, self.trained_rows)

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        """Overwrite the code of one row. A search at the same time may take the row for either."""
        group, offset = divmod(row, self.packer.nvec)
        self.packer.pack_1(self.code_of(vector), offset, self._packed()[group : group + 1])

    def candidates(self, query: NDArray[np.float32], count: int) -> tuple[Rows, Cosines] | None:
        """The likeliest rows with their approximate cosines; None when the codes cannot tell rows apart.

        The scan leaves out rows that all look the same, as those do whose codes were trained on nothing like them.
        """
        count = min(count, self.rows)
        near, rows = self.index.search(query[np.newaxis], count)
        return None if rows[0, -1] < 0 else (rows[0], near[0])

    def code(self, row: int) -> NDArray[np.uint8]:
        """The code of one row."""
        group, offset = divmod(row, self.packer.nvec)
        unpacked: NDArray[np.uint8] = self.packer.unpack_1(self._packed()[group : group + 1], offset)
        return unpacked

    def code_of(self, vector: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The code that a vector gets."""
        computed: NDArray[np.uint8] = self.index.pq.compute_codes(vector[np.newaxis])[0]
        return computed

    @property
    def memory_bytes(self) -> int:
        return int(self.index.codes.size())

    def _packed(self) -> NDArray[np.uint8]:
        table = self.index.codes
        packed: NDArray[np.uint8] = faiss.rev_swig_ptr(table.get(), table.size())
        return packed.reshape(-1, self.packer.block_size)
