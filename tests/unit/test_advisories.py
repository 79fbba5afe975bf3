"""A package with an advisory fails the audit; one that the index does not know is not taken for a good one."""

from __future__ import annotations

from typing import Any

from tests.advisories import verdict

GOOD: dict[str, Any] = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


def test_an_advisory_is_named_with_what_fixes_it() -> None:
    lines, code = verdict({"dependencies": [GOOD, BAD]})
    assert lines[0] == "bad 2.0: PYSEC-1, fixed in 2.1 or 3.0" and code == 2


def test_what_could_not_be_judged_is_counted() -> None:
    lines, code = verdict({"dependencies": [GOOD, UNKNOWN]})
    assert lines == ["1 packages checked, 0 advisories; 1 that the index could not judge"] and code == 0
