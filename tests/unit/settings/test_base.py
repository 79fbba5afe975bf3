"""What is shown or stored holds no passwords."""

from __future__ import annotations

import pytest

from ecdctr_spark.settings.base import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@host:5000/path", "http://***@host:5000/path"),
        ("https://token@host", "https://***@host"),
        ("postgresql+psycopg2://me:p@host/db?sslmode=x", "postgresql+psycopg2://***@host/db?sslmode=x"),
        ("mysql://host/db?user=me&password=secret&x=1", "mysql://host/db?user=me&password=***&x=1"),
        ("two: http://a:b@c and http://d:e@f.", "two: http://***@c and http://***@f."),
        ("uri: 'http://a:b@c'", "uri: 'http://***@c'"),
    ],
)
def test_credentials_in_a_uri_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text", ["abfss://container@account.dfs.core.windows.net/x", "http://host/a@b", "sqlite:////root/mlflow.db", "a@b"]
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert masked(text) == text
