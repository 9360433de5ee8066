"""The UI opens on the page that shows versions, in the mode that has the registry; and no server starts in vain."""

import socket
import sys
import webbrowser

import mlflow
import pytest


def test_a_server_is_opened_where_it_is(command_line, tiny_version, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://mlflow.example/")
    for arguments, page in (
        ((), "#/models"),
        (("tiny",), "#/models/tiny"),
        (("tiny/1",), "#/models/tiny/versions/1"),
        (("--uri", "models:/tiny/1"), "#/models/tiny/versions/1"),
    ):
        address = f"https://mlflow.example/{page}?workflowType=machine_learning"
        assert command_line("ui", "--open", *arguments) == (0, f"{address}\n", "")
        assert opened.pop() == address
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    command_line("ui", "tiny")
    command_line("ui", "tiny", "--no-open")
    assert opened == []
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "databricks://profile")
    assert command_line("ui")[2] == "conceptry: databricks has a UI of its own; open the workspace in a browser\n"


def test_a_port_in_use_is_refused(command_line, tiny_version) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = command_line("ui", "--no-open", "--port", str(port))
    assert (code, err) == (2, f"conceptry: --port {port} cannot be used (Address already in use); choose another\n")
