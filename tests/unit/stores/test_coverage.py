from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.coverage import Coverage

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=25)


@given(ranges)
def test_coverage_behaves_as_a_set_of_samples(pieces: list[tuple[int, int]]) -> None:
    coverage, held = Coverage(), set[int]()
    for begin, length in pieces:
        added = coverage.add(begin, begin + length)
        new = {sample for one_begin, one_end in added for sample in range(one_begin, one_end)}
        assert new == set(range(begin, begin + length)) - held
        assert sum(end - begin for begin, end in added) == len(new)
        held |= new
        end = max(held, default=-1) + 1
        assert coverage.end_sample == end
        assert {s for a, b in coverage.gaps() for s in range(a, b)} == set(range(end)) - held
        assert coverage.contiguous_samples == next((s for s in range(end + 1) if s not in held), 0)
