"""Starting JupyterLab: what is asked of it, and what is refused before it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from labkit import jupyter_server
from labkit.errors import ConfigError


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be used") as refusal:
            jupyter_server.main(port, "none", tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_port_that_cannot_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="setting port"):
        jupyter_server.main(70_000, "none", tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such folder: .*/nowhere"):
        jupyter_server.main(0, "none", tmp_path / "nowhere")


def test_an_unknown_browser_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither 'auto' nor 'none'"):
        jupyter_server.main(0, "netscape", tmp_path)


def test_only_this_machine_may_reach_the_server(tmp_path: Path) -> None:
    assert "--ServerApp.ip=127.0.0.1" in jupyter_server.arguments(8888, "none", tmp_path)


def test_the_token_is_left_to_the_server(tmp_path: Path) -> None:
    names = [word.partition("=")[0] for word in jupyter_server.arguments(8888, "none", tmp_path)]
    assert not [name for name in names if "token" in name.lower() or "password" in name.lower()]


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_is_allowed_only_to_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, allowed: bool
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert ("--ServerApp.allow_root=True" in jupyter_server.arguments(8888, "none", tmp_path)) is allowed
