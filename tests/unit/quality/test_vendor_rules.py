"""A vendor's list and our own become one."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import StoredCategory
from gateway.quality.vendor_rules import VendorRulebook, merged
from protocol.rules import Content

OPTIONS = Content(expression="customer:a")
names = st.sampled_from("abcd")
texts = st.lists(st.sampled_from(["x", "y", "z"]), max_size=2, unique=True).map(tuple)
own = st.lists(
    st.builds(
        lambda name, plain, more, at_vendor: StoredCategory(name, "", (*plain, *more), at_vendor and bool(plain)),
        names,
        texts,
        st.sampled_from([(), (OPTIONS,)]),
        st.booleans(),
    ).filter(lambda one: bool(one.contents)),
    unique_by=lambda one: one.category,
    max_size=4,
)
theirs = st.lists(
    st.builds(lambda name, plain: StoredCategory(name, "", plain, True), names, st.sampled_from([("x",), ("y", "z")])),
    unique_by=lambda one: one.category,
    max_size=4,
)


@given(own, theirs)
def test_the_vendor_wins_where_it_knows_and_ours_stays_where_it_does_not(
    ours: list[StoredCategory], vendors: list[StoredCategory]
) -> None:
    result = {one.category: one for one in merged(ours, vendors)}
    assert all(one.contents for one in result.values())
    for one in vendors:
        assert result[one.category].at_vendor
        assert [text for text in result[one.category].contents if isinstance(text, str)] == list(one.contents)
    for one in ours:
        if OPTIONS in one.contents:
            assert OPTIONS in result[one.category].contents
        if not one.at_vendor and one.category not in {other.category for other in vendors}:
            assert result[one.category] == one
    assert merged(list(result.values()), vendors) == list(result.values())


async def test_what_cannot_be_read_is_left_out_and_told() -> None:
    class Vendor:
        async def rules(
            self, app_id: str, category: str = "", *, page_no: int = 1, page_size: int = 10
        ) -> tuple[int, Sequence[StoredCategory]]:
            return 3, [
                StoredCategory("a", "", ("x", "y&&")),
                StoredCategory("b", "", ("(",)),
                StoredCategory("", "", ("x",)),
            ]

        async def add_rule(self, app_id: str, rule: StoredCategory) -> None: ...

        async def modify_rule(self, app_id: str, rule: StoredCategory) -> None: ...

        async def delete_rule(self, app_id: str, category: str) -> None: ...

    readable, unreadable = await VendorRulebook(Vendor()).listed("app")
    assert readable == [StoredCategory("a", "", ("x",), at_vendor=True)]
    assert len(unreadable) == 3
    assert 'category "a", contents[1]' in unreadable[0]
