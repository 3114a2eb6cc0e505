"""Who may wait at the door."""

from dataclasses import dataclass

from gateway.doors.strangers import Strangers


@dataclass(eq=False)
class Waiting:
    is_cut: bool = False

    def cut(self) -> None:
        self.is_cut = True


def test_beyond_the_limit_the_oldest_is_cut_and_the_newest_stays() -> None:
    strangers = Strangers(2)
    first, second, third = Waiting(), Waiting(), Waiting()
    for one in (first, second, third):
        strangers.enter(one)
    assert [one.is_cut for one in (first, second, third)] == [True, False, False]
    assert len(strangers) == 2


def test_whoever_has_shown_what_it_wants_is_no_stranger() -> None:
    strangers = Strangers(1)
    known = Waiting()
    strangers.enter(known)
    strangers.leave(known)
    strangers.enter(Waiting())
    assert not known.is_cut
    assert len(strangers) == 1


def test_to_enter_again_is_to_be_the_newest() -> None:
    strangers = Strangers(2)
    idle, other = Waiting(), Waiting()
    strangers.enter(idle)
    strangers.enter(other)
    strangers.enter(idle)
    strangers.enter(Waiting())
    assert (idle.is_cut, other.is_cut) == (False, True)


def test_one_that_is_gone_already_may_leave_again() -> None:
    strangers = Strangers(1)
    strangers.leave(Waiting())
    assert len(strangers) == 0
