"""README, CLUSTERS, TROUBLE and CONTRIBUTING are true of the code: files, commands, settings and messages exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.reference.settings import groups
from ecdctr_spark.settings.base import ConfigError
from tests.command_lines import options

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ("README.md", "CLUSTERS.md", "TROUBLE.md", "CONTRIBUTING.md")
FIRST_DAY = "calendar.first_day=2000-01-01"  # which every overlay sets


class Line(NamedTuple):
    """A command as a guide shows it; `whole` where it is a line of its own, with all that it needs."""

    text: str
    whole: bool
    error: str | None = None  # what the guide says that it ends with


def text_of(guide: str) -> str:
    return (ROOT / guide).read_text("utf-8")


def broken_links(text: str) -> list[str]:
    """The links to files and headings that are not there."""
    links = re.findall(r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)", text)
    return [
        f"{file}#{heading}"
        for file, heading in links
        if not (ROOT / file).exists() or (heading and heading not in headings(text_of(file) if file else text))
    ]


def headings(text: str) -> set[str]:
    """The names by which headings are linked."""
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> list[Line]:
    """The commands of `ecdctr`, its jobs and make that a guide shows: on lines of code, and in the text."""
    text = re.sub(r"^```(?!console|\n).*?^```", "", text, flags=re.MULTILINE | re.DOTALL)  # yaml, python, mermaid
    code = re.sub(r"\\\n\s*", "", "\n".join(re.findall(r"^(?:    .*|```\n.*?^```)", text, re.MULTILINE | re.DOTALL)))
    lines = [line.strip().removeprefix("$ ") for line in code.splitlines()]
    found = [
        Line(line, True, after.removeprefix("error: ") if after.startswith("error: ") else None)
        for line, after in zip(lines, [*lines[1:], ""], strict=False)
    ]
    found += [Line(code.replace("\\|", "|"), False) for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)]
    return [line for line in found if re.match(r"(ecdctr|make|spark-submit) ", line.text)]


def wrong(line: Line) -> str | None:
    """What is wrong with a command; None where nothing is."""
    words = shlex.split(re.sub(r"\s#.*", "", line.text))  # to shlex, the # in environment.tar.gz#here is a comment
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        unknown = [target for target in targets if not re.search(rf"^{target}:", text_of("Makefile"), re.MULTILINE)]
        return f"make has no target {unknown[0]}" if unknown else None
    if words[0] == "spark-submit":
        job = next((place for place, word in enumerate(words) if word.endswith(".py") and "jobs/" in word), None)
        if job is None:
            return None if not line.whole else "names no job"
        if not (ROOT / "jobs" / Path(words[job]).name).exists():
            return f"there is no {words[job]}"
        words = ["ecdctr", Path(words[job]).stem, *words[job + 1 :]]
    return _wrong_arguments(words[1], words[2:], line) or _wrong_settings(words[2:], line)


def _wrong_arguments(name: str, arguments: list[str], line: Line) -> str | None:
    try:
        options(name, arguments)
    except KeyError:
        return f"there is no command {name}"
    except Exception as error:
        if line.whole or type(error).__name__ != "MissingParameter":
            return f"{name}: {error}"
    return None


def _wrong_settings(arguments: list[str], line: Line) -> str | None:
    given = [value for option, value in pairwise(arguments) if option == "--set"]
    given = [value for value in given if "=" in value]  # a line in the text may name the key only
    try:
        load_config([], [FIRST_DAY, *given])
    except ConfigError as error:
        return None if line.error == str(error) else str(error)
    return "it ends without the error that is shown" if line.error else None


def unknown_settings(text: str) -> list[str]:
    """The settings that a guide names and the tree does not have. Those of Spark itself begin with `spark` as well."""
    named = re.findall(r"`(?:--set )?([a-z_]+(?:\.[a-z_]+)+)(?:[:=][^`]*)?`", text)
    known = {tuple(path) for group in groups() for path in (group.path, *(each.path for each in group.settings))}
    keys = [key.split(".") for key in named if key.split(".")[0] in {*Config.__struct_fields__} - {"spark"}]
    return [".".join(key) for key in keys if not any(_same(path, key) for path in known)]


def _same(path: Sequence[str], key: Sequence[str]) -> bool:
    return len(path) == len(key) and all(part in ("NAME", "[]", one) for part, one in zip(path, key, strict=True))


def overlays(text: str) -> list[str]:
    """The YAML blocks."""
    return re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def quoted(text: str) -> list[str]:
    """The messages that are the headings of TROUBLE.md."""
    return re.findall(r"^### `(.*)`$", text, re.MULTILINE)


@cache
def said() -> tuple[str, ...]:
    """What the package may say, with … for what it puts in."""
    found = [text_of("Makefile")]
    for path in (ROOT / "ecdctr_spark").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def unsaid(messages: list[str]) -> list[str]:
    return [message for message in messages if not any(message in text for text in said())]


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_somewhere(guide: str) -> None:
    assert broken_links(text_of(guide)) == []


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_exist_with_their_options_and_settings(guide: str) -> None:
    assert {line.text: fault for line in commands(text_of(guide)) if (fault := wrong(line))} == {}


@pytest.mark.parametrize("guide", GUIDES)
def test_settings_that_are_named_exist(guide: str) -> None:
    assert unknown_settings(text_of(guide)) == []


@pytest.mark.parametrize("guide", GUIDES)
def test_overlays_are_valid(guide: str, tmp_path: Path) -> None:
    for number, text in enumerate(overlays(text_of(guide))):
        overlay = tmp_path / f"{number}.yaml"
        overlay.write_text(text, "utf-8")
        load_config([overlay], [] if "first_day" in text else [FIRST_DAY])


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(text_of("README.md").splitlines()) <= 200


def test_every_message_of_the_trouble_page_is_one_that_the_package_has() -> None:
    messages = quoted(text_of("TROUBLE.md"))
    assert len(messages) >= 20
    assert [message for message in messages if len(message.replace("…", "").strip()) < 10] == []
    assert unsaid(messages) == []


# What the tests above would find.
@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("    ecdctr runn --from D --to D\n", "there is no command runn"),
        ("    ecdctr run --form D --to D\n", "run: .*--form"),
        ("    $ ecdctr run --from D\n", "run: .*--to"),
        ("    ecdctr run --from D \\\n        --until D\n", "run: .*--until"),
        ("    ecdctr run --from D --to D --set trian.ranks=4   # a comment\n", "unknown key trian"),
        ("    ecdctr run --from D --to D --set training.ranks=4\n    error: configuration: no\n", "without the error"),
        ("| `ecdctr train --levle cpm` | trains |\n", "train: .*--levle"),
        ("    make dmeo\n", "no target dmeo"),
        ("    spark-submit --packages P jobs/rum.py --from D --to D\n", "there is no jobs/rum.py"),
        ("    spark-submit jobs/run.py --from D\n", "run: .*--to"),
        ("```\necdctr ingest --from D\n```\n", "ingest: .*--to"),
    ],
)
def test_a_wrong_command_is_found(command: str, fault: str) -> None:
    (found,) = [fault for line in commands(f"text\n\n{command}") if (fault := wrong(line))]
    assert re.search(fault, found)


@pytest.mark.parametrize(
    "command",
    [
        "    ecdctr run --from D --to D --set training.ranks=4  # a comment\n",
        "    $ ecdctr run --from D --to D --set trian.ranks=4\n"
        "    error: configuration: unknown key trian; the nearest known one is training\n",
        "`ecdctr run --from yesterday`",
        "| `ecdctr train --launcher inline\\|spark` |",
        "    spark-submit --packages P \\\n        jobs/run.py --from D --to D\n",
        "```yaml\n# ecdctr rum\n```\n",
    ],
)
def test_a_right_command_is_not(command: str) -> None:
    assert [fault for line in commands(f"text\n\n{command}") if (fault := wrong(line))] == []


def test_a_link_to_nowhere_is_found() -> None:
    there = "# Here\n[a](README.md) [b](#here) [c](https://example.org/x)"
    text = f"{there} [d](nowhere.md) [e](#there) [f](README.md#nowhere)"
    assert broken_links(text) == ["nowhere.md#", "#there", "README.md#nowhere"]


def test_a_setting_that_does_not_exist_is_found() -> None:
    text = "`training.ranks: 2`, `training.rank`, `--set source.fodler=f`, `spark.executor.memory`, `check.limits`"
    assert unknown_settings(text) == ["training.rank", "source.fodler"]


def test_a_message_that_no_code_has_is_found() -> None:
    assert unsaid(["training.ranks is …, but Spark has … slots", "the moon is …"]) == ["the moon is …"]
