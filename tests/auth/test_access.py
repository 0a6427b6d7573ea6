"""May they? By what was granted to them, and what their credentials are limited to."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from auth.access import GrantedAccess, explain, may
from auth.binding import Binding
from auth.grants import MOST_REMEMBERED, Grants
from auth.permission import Permission
from auth.principal import ANONYMOUS, Principal
from auth.role import ADMIN, EDITOR, VIEWER
from storage.glob import glob
from storage.repositories.places import Places

READ, CREATE, DELETE = Permission.ENVIRONMENT_READ, Permission.ENVIRONMENT_CREATE, Permission.ENVIRONMENT_DELETE
TEAM = Binding("team/*", EDITOR, "a row")


def test_nobody_may_anything() -> None:
    assert not any(may(ANONYMOUS, permission, "default/x") for permission in Permission)


def test_the_union_of_bindings_counts() -> None:
    both = Principal("a", grants=Grants([TEAM, Binding("team/x", ADMIN), Binding("*/x", VIEWER)]))
    assert may(both, CREATE, "team/y")
    assert may(both, DELETE, "team/x")
    assert not may(both, DELETE, "team/y")
    assert may(both, READ, "other/x")
    assert not may(both, READ, "other/y")


def test_every_limit_has_to_allow_it_too() -> None:
    limited = Principal("a", grants=Grants([TEAM]), limits=(Grants([Binding("team/x", ADMIN)]), Grants([TEAM])))
    assert may(limited, CREATE, "team/x")
    assert not may(limited, CREATE, "team/y")
    # a limit grants nothing by itself
    assert not may(limited, DELETE, "team/x")


def test_two_entities_are_decided_apart() -> None:
    # conda-store answered for the second what it had found for the first
    one = Principal("a", grants=Grants([TEAM]))
    assert [may(one, READ, each) for each in ("team/x", "other/x", "team/x")] == [True, False, True]


def test_explains() -> None:
    one = Principal("a", grants=Grants([TEAM]), limits=(Grants([Binding("team/*", VIEWER)]),))
    assert explain(one, READ, "team/x").binding == TEAM
    assert explain(one, DELETE, "team/x").near == (TEAM,)
    limited = explain(one, CREATE, "team/x")
    assert (limited.granted, limited.limited, limited.binding) == (False, True, TEAM)
    assert explain(one, READ, "other/x").near == ()


def test_memory_of_answers_is_bounded() -> None:
    grants = Grants([TEAM])
    for number in range(3 * MOST_REMEMBERED):
        grants.find(READ, f"team/{number}")
    assert len(grants._answers) <= MOST_REMEMBERED


_parts = st.text("ab*", min_size=1, max_size=4)
_patterns = st.builds("{}/{}".format, _parts, _parts)
_names = st.text("ab", min_size=1, max_size=4)
_entities = st.one_of(_names, st.builds("{}/{}".format, _names, _names))


@given(st.lists(st.tuples(_patterns, st.sampled_from([VIEWER, EDITOR, ADMIN])), max_size=6), _entities)
def test_is_found_if_and_only_if_a_binding_matches(pairs: list[tuple[str, object]], entity: str) -> None:
    bindings = [Binding(pattern, role) for pattern, role in pairs]  # type: ignore[arg-type]  # the samples are roles
    grants = Grants(bindings)
    for permission, _ in itertools.product((READ, CREATE, DELETE), range(2)):
        expected = any(each.matches(entity) and permission in each.role.permissions for each in bindings)
        assert (grants.find(permission, entity) is not None) is expected


@given(st.lists(st.tuples(_patterns, st.sampled_from([VIEWER, EDITOR, ADMIN])), max_size=6), _entities)
def test_whatever_is_granted_is_where_lists_look_for_it(pairs: list[tuple[str, object]], entity: str) -> None:
    grants = Grants([Binding(pattern, role) for pattern, role in pairs])  # type: ignore[arg-type]  # the samples are roles
    for permission in (READ, CREATE, DELETE):
        if grants.find(permission, entity) is not None:
            places = grants.places(permission)
            assert entity in places.names or entity.startswith(places.beginnings)


@given(st.lists(st.tuples(_patterns, st.sampled_from([VIEWER, EDITOR, ADMIN])), max_size=6), _entities)
def test_who_may_everywhere_may_here(pairs: list[tuple[str, object]], entity: str) -> None:
    grants = Grants([Binding(pattern, role) for pattern, role in pairs])  # type: ignore[arg-type]  # the samples are roles
    for permission in (READ, CREATE, DELETE):
        assert grants.find(permission, entity) is not None or not grants.is_everywhere(permission)


@given(st.lists(st.tuples(_patterns, st.sampled_from([VIEWER, EDITOR, ADMIN])), max_size=6), _entities)
def test_whatever_is_granted_is_within_its_namespace(pairs: list[tuple[str, object]], entity: str) -> None:
    grants = Grants([Binding(pattern, role) for pattern, role in pairs])  # type: ignore[arg-type]  # the samples are roles
    namespace, slash, _ = entity.partition("/")
    for permission in (READ, CREATE, DELETE) if slash else ():
        assert grants.find(permission, entity) is None or grants.reaches(permission, namespace)


_granted = st.lists(st.tuples(_patterns, st.sampled_from([VIEWER, EDITOR, ADMIN])), max_size=6)


@given(_granted, _granted, _entities)
def test_patterns_are_what_may_be_read_below_namespaces(
    pairs: list[tuple[str, object]], limited: list[tuple[str, object]], entity: str
) -> None:
    grants, limit = (
        Grants([Binding(pattern, role) for pattern, role in each])  # type: ignore[arg-type]  # the samples are roles
        for each in (pairs, limited)
    )
    principal = replace(ANONYMOUS, grants=grants, limits=(limit,))
    for permission in (READ, CREATE, DELETE) if "/" in entity else ():
        patterns = GrantedAccess().patterns(principal, permission)
        matched = all(any(glob(pattern, entity) for pattern in each) for each in patterns)
        assert matched == may(principal, permission, entity)


def test_may_within_a_namespace() -> None:
    some, of_all = Grants([Binding("tea/*", ADMIN), Binding("other/x", VIEWER)]), Grants([Binding("*/x", VIEWER)])
    access = GrantedAccess()
    assert access.may_within(Principal("a", grants=some), READ, "other")
    assert access.may_within(Principal("a", grants=some, limits=(of_all,)), READ, "tea")
    for namespace, permission in (("team", READ), ("te", READ), ("other", CREATE)):
        assert not access.may_within(Principal("a", grants=some), permission, namespace)
    assert not access.may_within(Principal("a", grants=of_all, limits=(some,)), READ, "team")


def test_may_everywhere() -> None:
    everything, some = Grants([TEAM, Binding("*/*", VIEWER)]), Grants([Binding("*/*x", ADMIN), Binding("t*/*", ADMIN)])
    access = GrantedAccess()
    assert access.may_everywhere(Principal("a", grants=everything), READ)
    assert access.may_everywhere(Principal("a", grants=everything, limits=(everything,)), READ)
    assert not access.may_everywhere(Principal("a", grants=everything), CREATE)
    assert not access.may_everywhere(Principal("a", grants=everything, limits=(everything, some)), READ)
    assert not access.may_everywhere(Principal("a", grants=some, limits=(everything,)), READ)
    assert not access.may_everywhere(ANONYMOUS, READ)


def test_lists_look_where_the_least_is() -> None:
    everything, some = Grants([Binding("*/*", ADMIN)]), Grants([TEAM, Binding("other/x", VIEWER)])
    for grants, limits in ((everything, (some,)), (some, (everything,)), (some, ())):
        assert GrantedAccess().places(Principal("a", grants=grants, limits=limits), READ) == some.places(READ)
    assert some.places(CREATE) == Places.of((), ["team"])
    assert some.places(DELETE) == Places.of((), ())
