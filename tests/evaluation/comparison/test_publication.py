"""What a page that others read says of the store."""

import pytest

from conceptry.evaluation.comparison.publication import server_address


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://me:secret@host:5000/", "http://host:5000"),
        ("https://token@host/mlflow", "https://host/mlflow"),
        ("http://host/a@b", "http://host/a@b"),
        ("sqlite:///m.db", ""),
    ],
)
def test_links_hold_no_password(uri: str, address: str) -> None:
    assert server_address(uri) == address
