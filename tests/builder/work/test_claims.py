"""Builds that wait for each other's work: whose they are, and how urgent it is."""

from __future__ import annotations

from builder.work.claims import Caller, Claim


def test_builds_that_wait_for_each_other_have_both_their_callers() -> None:
    one, two = Claim(Caller("a"), lasting=True), Claim(Caller("b"), lasting=True)
    with one.joined(two), two.joined(one):
        assert one.list_waiting() == two.list_waiting() == {Caller("a"), Caller("b")}
    assert one.list_waiting() == {Caller("a")}


def test_what_is_done_for_others_is_as_urgent_as_the_most_urgent_of_them() -> None:
    low, high = Claim(priority=-1), Claim(priority=1)
    part = low.make_part()
    assert part.find_urgency() == -1
    with part.joined(low):
        assert part.find_urgency() == -1
        with part.joined(high):
            assert part.find_urgency() == 1
        low.set_priority(0)
        assert part.find_urgency() == 0
    assert (low.find_urgency(), high.find_urgency()) == (0, 1)


def test_a_claim_is_anonymous_until_somebody_who_is_signed_in_waits() -> None:
    person, stranger = Caller("ann", signed_in=True), Caller("192.0.2.1")
    assert not Claim(person).is_anonymous()
    assert not Claim(lasting=True).is_anonymous()
    build = Claim(stranger)
    part = build.make_part()
    with build.waited_for(stranger), part.joined(build):
        assert build.is_anonymous()
        assert part.is_anonymous()
        with build.waited_for(person):
            assert not build.is_anonymous()
            assert not part.is_anonymous()
        joining = Claim(person)
        other = Claim(stranger).make_part()
        with joining.waited_for(person), other.joined(joining):
            assert not other.is_anonymous()
