"""deploy/requirements.txt is what pyproject.toml asks for, no more and no less, in the versions that are tested."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .dockerfile import DEPLOY, ROOT

RUNTIME = DEPLOY / "requirements.txt"
BUILD = DEPLOY / "build-requirements.txt"
TESTS = ROOT / "tests" / "requirements.txt"


def pins(lock: Path) -> dict[str, str]:
    """Name and version of every package of a lock."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def project() -> dict[str, list[str]]:
    table: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def needed(requirement: Requirement, seen: dict[str, set[str]]) -> None:
    """Add to `seen` what `requirement` installs on this machine, with everything that needs in turn."""
    name = canonicalize_name(requirement.name)
    extras = {"", *requirement.extras}
    if extras <= seen.get(name, set()):
        return
    seen.setdefault(name, set()).update(extras)
    for text in distribution(requirement.name).requires or ():
        further = Requirement(text)
        if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
            needed(further, seen)


def test_the_lock_satisfies_every_dependency() -> None:
    """If this fails: the command that made the lock stands in its first lines."""
    locked = pins(RUNTIME)
    for requirement in map(Requirement, project()["dependencies"]):
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_lock_is_complete_and_holds_nothing_that_is_not_needed() -> None:
    seen: dict[str, set[str]] = {}
    for dependency in project()["dependencies"]:
        needed(Requirement(dependency), seen)
    assert set(pins(RUNTIME)) == set(seen)


def test_what_is_shipped_is_what_is_tested() -> None:
    tested = pins(TESTS)
    for lock in (RUNTIME, BUILD):
        assert {name: tested[name] for name in pins(lock)} == pins(lock), lock.name


def test_every_package_has_hashes_and_no_lock_names_a_place() -> None:
    for lock in (RUNTIME, BUILD, TESTS):
        text = lock.read_text()
        entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        assert len(entries) == len(pins(lock)) > 0
        assert all("--hash=sha256:" in entry for entry in entries), lock.name
        assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text), lock.name


def test_the_build_lock_holds_the_build_backend_alone() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    (requirement,) = map(Requirement, requires)
    assert [*pins(BUILD)] == [requirement.name]
    assert pins(BUILD)[requirement.name] in requirement.specifier
