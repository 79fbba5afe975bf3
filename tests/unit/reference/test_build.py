"""`make docs` links the pages of the repository with the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecdctr_spark.cli import app

pytest.importorskip("pdoc", reason="pdoc is in the extra dev")

from ecdctr_spark.reference import build


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("[a](CLUSTERS.md)", "[a](CLUSTERS.html)"),
        ("[a](TROUBLE.md#disk)", "[a](TROUBLE.html#disk)"),
        ("[a](ecdctr_spark/pipeline/steps.py)", "[a](ecdctr_spark/pipeline/steps.html)"),
        ("[a](conf/base.yaml)", "[a](settings.html)"),
        ("[a](conf/methods/ecdctr.yaml)", "[a](settings.html)"),
        ("[a](conf/movielens.yaml)", "[a](../conf/movielens.yaml)"),
        ("[a](https://example.org/a)", "[a](https://example.org/a)"),
        ("[a](#see-it-run)", "[a](#see-it-run)"),
    ],
)
def test_a_link_leads_to_the_page_of_its_file(link: str, page: str) -> None:
    assert build.linked(f"see {link}, and") == f"see {page}, and"


def test_every_command_is_in_the_reference() -> None:
    text = build.commands_page()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"## `ecdctr {command.callback.__name__}`" in text
    assert "`--from DAY`" in text


def test_pages_and_docstrings_are_written_as_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_package", lambda: iter([build]))
    build.build(tmp_path)
    assert {path.name for path in tmp_path.glob("*.html")} >= {
        "index.html", "README.html", "CLUSTERS.html", "TROUBLE.html", "settings.html", "tables.html", "commands.html",
    }  # fmt: skip
    assert "attribution_hours" in (tmp_path / "settings.html").read_text("utf-8")
    module = (tmp_path / "ecdctr_spark" / "reference" / "build.html").read_text("utf-8")
    assert "Writes the pages into the folder" in module
