"""JupyterLab as `labkit lab` starts it, in a home of its own, and a Chromium that looks at it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout

REPOSITORY = Path(__file__).resolve().parents[2]
ARTIFACTS = REPOSITORY / ".artifacts"
# What a screen reader calls a control, and whether one sees that it is in focus: by a line around it, or thicker lines.
CONTROLS = """
    const named = node => (node.getAttribute('aria-label') ?? node.labels?.[0]?.textContent ?? node.textContent).trim();
    const controls = selector => [...document.querySelectorAll(selector)].flatMap(root =>
        [...root.querySelectorAll('input, button, summary, [tabindex]')]).filter(node =>
        !node.disabled && node.tabIndex >= 0 && node.checkVisibility({ visibilityProperty: true }));
"""
LOOK_AT_FOCUS = """() => {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    const outlined = style.outlineStyle === 'solid' && parseFloat(style.outlineWidth) >= 2;
    const thick = [...node.querySelectorAll('*')].some(each => getComputedStyle(each).strokeWidth === '2px');
    return [named(node), outlined || thick];
}"""

PATIENCE_SECONDS = 150
"""How long to wait for what shall come. A slow machine takes four times as long as another; a test that passes does not
wait, and one that claims a time reads it off the page."""

HAS_A_KERNEL = """() => ['idle', 'busy'].includes(
    window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status)"""

START_THE_SERVER = "import sys; from labkit.jupyter_server import main; main(int(sys.argv[1]), 'none', sys.argv[2])"


BEGINS_A_RECORD = re.compile(r"^(?=\[[A-Z] )", re.MULTILINE)
KERNEL_WITHOUT_A_PAST = "The 'last_activity' trait of a ServerKernelManager instance expected a datetime"


def complaints(log: str) -> list[str]:
    """The records of a server's log that tell of a connection it cut for want of an answer, or of a traceback.

    All but one: Jupyter's server cannot list a kernel it is just starting, and says so with a traceback where a loaded
    machine makes that take long (jupyter/notebook#5345, open for its successors). JupyterLab asks again.
    """
    return [
        record
        for record in BEGINS_A_RECORD.split(log)
        if "WebSocket ping timeout" in record or ("Traceback" in record and KERNEL_WITHOUT_A_PAST not in record)
    ]


class Notebook:
    """One notebook open in JupyterLab, driven the way a person would, without the mouse where it does not matter."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self._address = address

    def reload(self) -> None:
        """Load the page anew. By its address: another browser at the same server may have changed what was open.

        Once more if it finds no kernel: a server that is just starting one may fail to list them all (`complaints`).
        """
        self.page.goto(self._address)
        with suppress(PlaywrightTimeout):
            self.page.wait_for_function(HAS_A_KERNEL, timeout=PATIENCE_SECONDS * 1000 / 3)
            return
        self.page.goto(self._address)
        self.page.wait_for_function(HAS_A_KERNEL)

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        """Start a command of JupyterLab; does not wait for its end."""
        self.page.evaluate(
            "([command, arguments]) => { window.jupyterapp.commands.execute(command, arguments); }",
            [command, arguments or {}],
        )

    def start_cell(self, index: int) -> None:
        """Run one code cell (counted among all cells) and return at once."""
        self.page.evaluate(
            "index => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = index; }",
            index,
        )
        self.execute("notebook:run-cell")

    def run_cell(self, index: int, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Run one code cell and wait for its end. Fails if it raised."""
        self.start_cell(index)
        self.wait_for_cell(index, timeout_seconds)
        errors = [
            f"{output['ename']}: {output['evalue']}"
            for output in self._outputs(index)
            if output["output_type"] == "error"
        ]
        assert not errors, f"cell {index} raised: {errors}"

    def _outputs(self, index: int) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = self.page.evaluate(
            "index => window.jupyterapp.shell.currentWidget.content.widgets[index].model.sharedModel.toJSON().outputs",
            index,
        )
        return outputs

    def output_text(self, index: int) -> str:
        """What that cell has printed and returned, as plain text."""
        outputs = self._outputs(index)
        parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
        return "\n".join("".join(part) for part in parts)

    def wait_for_cell(self, index: int, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until that cell has a number instead of a star."""
        self.page.wait_for_function(
            r"index => /\d/.test(window.jupyterapp.shell.currentWidget.content.widgets[index].promptNode.textContent)",
            arg=index,
            timeout=timeout_seconds * 1000,
        )

    def is_running(self, index: int) -> bool:
        """True while that cell shows its star."""
        running: bool = self.page.evaluate(
            "index => /[*]/.test(window.jupyterapp.shell.currentWidget.content.widgets[index].promptNode.textContent)",
            index,
        )
        return running

    def kernel_pid(self) -> int:
        """The process that runs the cells."""
        pid: int = self.page.evaluate(
            """async () => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const ask = { pid: "__import__('os').getpid()" };
                const future = kernel.requestExecute({ code: '', user_expressions: ask });
                const reply = await future.done;
                return Number(reply.content.user_expressions.pid.data['text/plain']);
            }"""
        )
        return pid

    def kill_the_kernel(self) -> None:
        """End the kernel without a word."""
        os.kill(self.kernel_pid(), signal.SIGKILL)

    @contextmanager
    def kernel_held_up(self) -> Iterator[None]:
        """The kernel computes nothing and answers nobody, as when a cell keeps even its other threads waiting."""
        pid = self.kernel_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def names_of_controls(self, selector: str) -> list[str]:
        """What a screen reader calls every button and field within `selector`, as one reads."""
        names: list[str] = self.page.evaluate(
            f"selector => {{ {CONTROLS} return controls(selector).map(named); }}", selector
        )
        return names

    def walk_by_tab(self, selector: str) -> list[list[Any]]:
        """The name of each control that Tab leads to within `selector`, and whether one sees that it is in focus."""
        count = self.page.evaluate(
            f"selector => {{ {CONTROLS} controls(selector)[0].focus(); return controls(selector).length; }}", selector
        )
        self.page.keyboard.press("Shift+Tab")
        seen = []
        for _ in range(count):
            self.page.keyboard.press("Tab")
            seen.append(self.page.evaluate(f"() => {{ {CONTROLS} return ({LOOK_AT_FOCUS})(); }}"))
        return seen

    def photograph(self, name: str, selector: str | None = None) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        target = self.page.locator(selector).first if selector else self.page
        target.screenshot(path=str(ARTIFACTS / f"{name}.png"))


@pytest.fixture(scope="session")
def notebook_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks: JupyterLab saves what it runs."""
    folder = tmp_path_factory.mktemp("checkout") / "notebooks"
    shutil.copytree(REPOSITORY / "notebooks", folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return folder


@pytest.fixture(scope="session")
def server_address(notebook_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, token included, of a JupyterLab started as the command line does; its log must end in peace."""
    home = tmp_path_factory.mktemp("home")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
    folders = {name: str(home / name.lower()) for name in (*names, "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")}
    (home / "jupyter_config_dir").mkdir()
    (home / "jupyter_config_dir" / "jupyter_lab_config.json").write_text('{"LabApp": {"expose_app_in_browser": true}}')
    environment = os.environ | folders | {"HOME": str(home), "LABKIT_DATA_DIR": str(home / "data")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        (home / "server.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", START_THE_SERVER, str(port), str(notebook_folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            cwd=notebook_folder.parent,
        ) as server,
    ):
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "http://127.0.0.1:" in line, (home / "server.log").read_text()
        yield line.split()[-1]
        said = (home / "server.log").read_text()
        server.terminate()
        server.wait(timeout=60)
    assert not complaints(said), said


@pytest.fixture(scope="session")
def open_notebook(chromium: Any, server_address: str) -> Iterator[Callable[[str], Notebook]]:
    contexts = []

    def opened(name: str) -> Notebook:
        context = chromium.new_context(viewport={"width": 1380, "height": 1000})
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        # A workspace of the server remembers what other browsers had open: each of these begins with an empty one.
        address = server_address.replace("00_start_here.ipynb", name)
        page.goto(f"{address}&reset")
        page.wait_for_function(
            """name => {
                const panel = window.jupyterapp?.shell?.currentWidget;
                return panel?.context?.path?.endsWith(name) && panel.content?.widgets?.length > 0
                    && panel.sessionContext?.session?.kernel?.status === 'idle';
            }""",
            arg=name,
        )
        return Notebook(page, address)

    yield opened
    for context in contexts:
        context.close()


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@pytest.fixture(scope="session")
def new_notebook(notebook_folder: Path) -> Callable[..., str]:
    """Writes a notebook beside the others; its name."""

    def written(name: str, *cells: str) -> str:
        write_notebook(notebook_folder / name, *cells)
        return name

    return written
