"""make audit: which of the pinned packages have known advisories, by pip-audit's answers (its JSON on standard input).

An index that knows no advisories cannot say that there are none, so packages that it could not judge are counted.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def verdict(answers: dict[str, Any]) -> tuple[list[str], int]:
    """The lines to print, and the exit code: 2 where a package has an advisory."""
    packages = answers["dependencies"]
    judged = [package for package in packages if "skip_reason" not in package]
    found = [(package, advisory) for package in judged for advisory in package["vulns"]]
    lines = [
        f"{package['name']} {package['version']}: {advisory['id']}, fixed in {_versions(advisory)}"
        for package, advisory in found
    ]
    unknown = len(packages) - len(judged)
    lines.append(f"{len(judged)} packages checked, {len(found)} advisories; {unknown} that the index could not judge")
    return lines, 2 if found else 0


def _versions(advisory: dict[str, Any]) -> str:
    return " or ".join(advisory["fix_versions"]) or "no version"


if __name__ == "__main__":
    said, code = verdict(json.load(sys.stdin))
    print("\n".join(said))  # noqa: T201
    sys.exit(code)
