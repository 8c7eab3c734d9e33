"""Starting JupyterLab on the lab's notebooks: what `labkit lab` and `make lab` do.

The server listens on 127.0.0.1 only and asks for a token. Three settings differ from Jupyter's own because a lab
lives longer than a page: messages nobody reads are not hoarded, a kernel gets time to close its ledger, and no
question about news or updates stands between a person and the first notebook.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path

from labkit.edge.lean_imports import ADDRESS_GRAMMAR, leave_out
from labkit.errors import ConfigError

START_NOTEBOOK = "00_start_here.ipynb"
SHUTDOWN_SECONDS = 20
"""How long a kernel may take to end; its ledger is closed in half of it."""

_SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def main(port: int = 8888, browser: str = "auto", notebook_dir: Path | str = "notebooks") -> None:
    """Run JupyterLab until it is stopped (Ctrl-C once, or SIGTERM).

    Args:
        port: the port on 127.0.0.1.
        browser: `auto` opens the user's browser; `none` prints the address instead.
        notebook_dir: the folder of the notebooks; its parent becomes the root of the file browser.

    Raises:
        ConfigError: the port is taken, or there is no such folder, or `browser` is neither.
    """
    folder = Path(notebook_dir).resolve()
    if browser not in ("auto", "none"):
        raise ConfigError(f"setting browser: {browser!r} is neither 'auto' nor 'none'", field="browser")
    if not folder.is_dir():
        raise ConfigError(f"setting notebook_dir: no such folder: {folder}", field="notebook_dir")
    _check_port(port)

    with tempfile.TemporaryDirectory(prefix="labkit-jupyter-") as settings:
        _write_settings(Path(settings))
        leave_out(ADDRESS_GRAMMAR)
        # Imported here: a second's work that nobody needs who only wants to know that the port is taken.
        from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]

        server = LabApp.initialize_server(argv=arguments(port, browser, folder))
        address = f"http://127.0.0.1:{server.port}/lab/tree/{folder.name}/{START_NOTEBOOK}?token={server.token}"
        # Said by the loop, because its first act is to open the port.
        server.io_loop.add_callback(print, f"JupyterLab is at {address}\nStop it with Ctrl-C.", flush=True)
        # The address has been told, in one line; the server would tell it again in eight.
        server.identity_provider.token_generated = False
        server.start()


def arguments(port: int, browser: str, folder: Path) -> list[str]:
    """The command line for JupyterLab."""
    line = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder.parent}",
        f"--ServerApp.open_browser={browser == 'auto'}",
        "--ServerApp.answer_yes=True",
        "--Application.log_level=WARN",
        f"--LabApp.default_url=/lab/tree/{folder.name}/{START_NOTEBOOK}",
        # A page that is closed while a monitor runs would otherwise grow the server by every message it misses.
        "--MappingKernelManager.buffer_offline_messages=False",
        f"--KernelManager.shutdown_wait_time={SHUTDOWN_SECONDS}",
        "--KernelManager.transport_encryption=auto",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line.append("--ServerApp.allow_root=True")
    return line


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # As the server itself will: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"setting port: 127.0.0.1:{port} cannot be used ({reason}); choose another, e.g. PORT=8899",
                field="port",
            ) from error


def _write_settings(folder: Path) -> None:
    """Default settings of JupyterLab's front end, found by it through the configuration path."""
    target = folder / "labconfig" / "default_setting_overrides.json"
    target.parent.mkdir()
    target.write_text(json.dumps(_SETTINGS))
    others = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([str(folder), *([others] if others else [])])
