"""The live monitor in a real JupyterLab and a real Chromium: how fresh, how cheap, and whether it leaks.

    python benchmarks/widgets.py [--symbols 100] [--ticks 1000] [--cycles 500] [--frames 15000] [--turns 12]
                                 [--with PREFIX] [--only engine]

- The same live table three ways, one after the other in one notebook: our monitor, an ipywidgets HTML sent whole five
  times a second, and ipydatagrid (from an installation `pip install --prefix PREFIX ipydatagrid`, else "not
  installed"). How old is what the page shows (read off its own text; a canvas cannot be read), messages and bytes a
  second, CPU of the kernel beyond the market's own, CPU of the browser, frames the page paints.
- Leaks: eight hours of a monitor are 144,000 frames at five a second; `--frames` of them are sent as fast as the page
  takes them, and the slope of the page's heap and of the kernel's memory over the later two thirds is told for eight
  hours, with twice its standard error.
  Then `--cycles` monitors are opened, shown and closed, and as many plain ipywidgets HTML.
- The engine: how late a probe of 5 ms on the lab's own loop is, 99th percentile, with a monitor open and without one
  in `--turns` pairs; the mean ratio of a pair with twice its standard error. The same of a process of its own: what the
  browser takes from any process of a small machine is not the monitor's cost to the engine. Then both once more with
  the kernel on a core of its own, away from the browser, the server and that other process (Linux, two cores or more).
- From the start of the server, everything set up, to the first price on the page and to the first closed trade.

Exit status 1 if the monitor misses one of its goals: 500 ms at the 95th percentile, five messages a second.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import psutil
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SERVE = "import sys; from labkit.jupyter_server import main; main(int(sys.argv[1]), 'none', sys.argv[2])"
NAME = "widgets_measured.ipynb"
EIGHT_HOURS_OF_FRAMES = 8 * 3_600 * 5
PARTS = 15
OLDEST_MS, MOST_MESSAGES = 500.0, 5.0

SET_UP = f"""
import sys, time, asyncio, gc
sys.path.insert(0, {str(ROOT / "benchmarks" / "parts")!r})
import widget_market as market
import labkit, msgspec
from labkit.engine.snapshots import snapshot_of_nothing
from labkit.widgets.live_monitor import LiveMonitor
from labkit.widgets import frames
still = snapshot_of_nothing(labkit.Config(), "running", "")
still = msgspec.structs.replace(still, speed=1.0)
lab = market.TickingLab(still, SYMBOLS, TICKS)
"""
FULL_PACE = """
m._pace.rest_ms = lambda now_ms, cost_ms: 5.0
start = m._frames._sequence
while m._frames._sequence - start < {frames}: time.sleep(0.05)
print(market.memory_mb())
"""
CYCLES = """
import ipywidgets
from IPython.display import clear_output, display
for _ in range({cycles}):
    w = {make}
    display(w)
    time.sleep(0.2)  # shown, and the server throws messages away beyond a thousand a second
    w.close()
    clear_output()
w = None
print(*market.objects_and_threads())
"""
START_A_LAB = """
import tempfile
lab._ticks = 0  # the made-up market rests: it is not the engine's
real = labkit.start(data_dir=tempfile.mkdtemp(), speed=60, paper={"history_days": 2}, trader={"warm_up_minutes": 600})
real.wait_for("running"); time.sleep(8)
def probe(seconds):
    async def late():
        found, until, spent = [], time.monotonic() + seconds, time.process_time()
        while time.monotonic() < until:
            due = time.monotonic() + 0.005
            await asyncio.sleep(0.005)
            found.append((time.monotonic() - due) * 1000)
        return [(time.process_time() - spent) / seconds, *found]
    return real._host.submit(late()).result(seconds + 30)
"""
BARE_PROBE = """
import asyncio, time
async def late():
    found, until = [], time.monotonic() + 5
    while time.monotonic() < until:
        due = time.monotonic() + 0.005
        await asyncio.sleep(0.005)
        found.append((time.monotonic() - due) * 1000)
    return sorted(found)
found = asyncio.run(late())
print(found[int(len(found) * 0.99)])
"""
WATCH_AGES = """symbols => {
    window.ages = []; window.painted = 0; window.watching = true;
    const paint = () => { window.painted += 1; if (window.watching) requestAnimationFrame(paint); };
    requestAnimationFrame(paint);
    const timer = setInterval(() => {
        if (!window.watching) return clearInterval(timer);
        for (const cell of document.querySelectorAll('tr[data-symbol] [data-cell=bid]')) {
            const shown = Number(cell.textContent.replaceAll(',', '')) * 100;
            if (shown) window.ages.push((Date.now() % 100000000) - shown);
        }
    }, 25);
}"""


@contextmanager
def jupyter(folder: Path, prefix: str | None) -> Iterator[tuple[str, float]]:
    """JupyterLab on a copy of the notebooks; its address and when it was started."""
    environment = os.environ | {"HOME": str(folder), "LABKIT_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}
    for name in (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "IPYTHONDIR",
    ):
        environment[name] = str(folder / name.lower())
    (folder / "jupyter_config_dir").mkdir()
    (folder / "jupyter_config_dir" / "jupyter_lab_config.json").write_text(
        '{"LabApp": {"expose_app_in_browser": true}}'
    )
    if prefix:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        environment["PYTHONPATH"] += os.pathsep + str(Path(prefix) / "lib" / python / "site-packages")
        environment["JUPYTER_PATH"] = str(Path(prefix) / "share" / "jupyter")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    command = [sys.executable, "-c", SERVE, str(port), str(folder / "notebooks")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=folder
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1], started
        finally:
            server.send_signal(signal.SIGTERM)


class Page:
    """One notebook open in the browser."""

    def __init__(self, browser: Any, address: str, name: str) -> None:
        self.page = browser.new_context(viewport={"width": 1380, "height": 1000}).new_page()
        self.bytes = self.messages = 0
        self.page.on("websocket", lambda ws: ws.on("framereceived", self._received))
        self.page.goto(address.replace("00_start_here.ipynb", name) + "&reset", timeout=60_000)
        self.page.wait_for_function(
            """name => { const panel = window.jupyterapp?.shell?.currentWidget;
                return panel?.context?.path?.endsWith(name)
                    && panel.sessionContext?.session?.kernel?.status === 'idle'; }""",
            arg=name,
            timeout=60_000,
        )
        self.devtools = self.page.context.new_cdp_session(self.page)
        self.devtools.send("Performance.enable")

    def _received(self, payload: str | bytes) -> None:
        data = payload if isinstance(payload, bytes) else payload.encode()
        self.bytes += len(data)
        # The kernel's status while it hears the page names such a message too, as its parent.
        self.messages += b"comm_msg" in data and b"execution_state" not in data

    def run(self, index: int, timeout_seconds: float = 300) -> list[dict[str, Any]]:
        """Run a cell to its end; its outputs."""
        self.page.evaluate(
            """index => { const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = index; window.jupyterapp.commands.execute('notebook:run-cell'); }""",
            index,
        )
        self.page.wait_for_function(
            r"index => /\d/.test(window.jupyterapp.shell.currentWidget.content.widgets[index].promptNode.textContent)",
            arg=index,
            timeout=timeout_seconds * 1000,
        )
        outputs: list[dict[str, Any]] = self.page.evaluate(
            "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.toJSON().outputs", index
        )
        return outputs

    def printed(self, index: int) -> list[float]:
        outputs = self.run(index)
        wrong = [output["evalue"] for output in outputs if output["output_type"] == "error"]
        assert not wrong, wrong
        text = "".join("".join(output.get("text", "")) for output in outputs)
        return [float(word) for word in text.split()]

    def heap_mb(self) -> float:
        self.devtools.send("HeapProfiler.collectGarbage")
        metrics = self.devtools.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize")) / (1 << 20)


def cpu_seconds(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def watch(page: Page, kernel: psutil.Process, browser: list[psutil.Process], seconds: float) -> dict[str, float]:
    """What a page and its kernel do for so long."""
    page.page.wait_for_timeout(3_000)
    page.page.evaluate(WATCH_AGES)
    bytes_before, messages_before = page.bytes, page.messages
    began, kernel_before, browser_before = time.monotonic(), cpu_seconds([kernel]), cpu_seconds(browser)
    page.page.wait_for_timeout(seconds * 1000)
    took = time.monotonic() - began
    seen = page.page.evaluate("() => { window.watching = false; return [window.ages, window.painted]; }")
    ages = sorted(seen[0])
    return {
        "p50": ages[len(ages) // 2] if ages else float("nan"),
        "p95": ages[int(len(ages) * 0.95)] if ages else float("nan"),
        "messages": (page.messages - messages_before) / took,
        "kB": (page.bytes - bytes_before) / took / 1_000,
        "kernel": 100 * (cpu_seconds([kernel]) - kernel_before) / took,
        "browser": 100 * (cpu_seconds(browser) - browser_before) / took,
        "painted": seen[1] / took,
    }


def three_tables(page: Page, kernel: psutil.Process, browser: list[psutil.Process], options: Any) -> bool:
    idle = watch(page, kernel, browser, options.seconds)
    print(f"the market alone: kernel {idle['kernel']:.1f} % of a core, browser {idle['browser']:.1f} %")
    print(
        f"{'':<18}{'age p50':>9}{'p95 ms':>8}{'msg/s':>7}{'kB/s':>8}{'kernel %':>10}{'browser %':>11}{'paints/s':>10}"
    )
    reached = False
    for name, show, close in (("labkit monitor", 1, 2), ("ipywidgets HTML", 3, 4), ("ipydatagrid", 5, 6)):
        outputs = page.run(show)
        if errors := [output for output in outputs if output["output_type"] == "error"]:
            missing = errors[0]["ename"] == "ModuleNotFoundError"
            print(f"{name:<18}{'not installed: ' if missing else 'does not work here: '}{errors[0]['evalue']}")
            continue
        seen = watch(page, kernel, browser, options.seconds)
        page.run(close)
        print(
            f"{name:<18}{seen['p50']:>9.0f}{seen['p95']:>8.0f}{seen['messages']:>7.1f}{seen['kB']:>8.0f}"
            f"{seen['kernel'] - idle['kernel']:>10.1f}"
            f"{seen['browser'] - idle['browser']:>11.1f}{seen['painted']:>10.0f}"
        )
        if name.startswith("labkit"):
            reached = seen["p95"] <= OLDEST_MS and seen["messages"] <= MOST_MESSAGES
    return reached


def slope_and_error(values: list[float]) -> tuple[float, float]:
    """How much `values` grow from one to the next, and the standard error of that."""
    places = range(len(values))
    slope, start = statistics.linear_regression(places, values)
    residues = sum((value - start - slope * place) ** 2 for place, value in zip(places, values, strict=True))
    spread = sum((place - statistics.fmean(places)) ** 2 for place in places)
    return slope, math.sqrt(residues / (len(values) - 2) / spread)


def leaks(page: Page, options: Any) -> None:
    page.run(1)
    heaps, memories = [], []
    for _ in range(PARTS):
        memories += page.printed(7)
        heaps.append(page.heap_mb())
    page.run(2)
    per_part = EIGHT_HOURS_OF_FRAMES / (options.frames / PARTS)
    for what, values in (("page heap", heaps), ("kernel memory", memories)):
        slope, error = slope_and_error(values[PARTS // 3 :])  # what is loaded once comes first
        print(
            f"{what}: {values[0]:.1f} to {values[-1]:.1f} MB in {PARTS} parts of {options.frames} frames; in eight "
            f"hours {slope * per_part:+.1f} ± {2 * error * per_part:.1f} MB"
        )
    for what, cell in (("monitors", 8), ("plain HTML", 14)):
        page.run(cell)  # what is loaded and kept once
        heap, before = page.heap_mb(), page.printed(9)
        page.printed(cell)
        after, later = page.printed(9), page.heap_mb()
        print(
            f"{options.cycles} {what} opened, shown and closed: {after[0] - before[0]:+.0f} objects of "
            f"{before[0]:.0f}, {after[1] - before[1]:+.0f} threads, {later - heap:+.1f} MB in the page"
        )


def keep_apart(kernel: psutil.Process, others: list[psutil.Process]) -> bool:
    """Give the kernel the last core of the machine for itself; False where that cannot be done."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        return False
    *rest, last = cores
    for process, allowed in ((kernel, {last}), *((each, set(rest)) for each in others)):
        with suppress(psutil.NoSuchProcess):
            for thread in process.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, allowed)
    return True


def engine(page: Page, turns: int) -> None:
    """How late the engine's loop is with and without a monitor, pair by pair: other load is in both.

    So is a process that does nothing else than being late: what a page that paints takes from it, the machine lacks.
    """
    p99: dict[bool, list[float]] = {False: [], True: []}
    p50: dict[bool, list[float]] = {False: [], True: []}
    bare: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * turns):
        # A B B A: a drift of the machine, or of the lab, must not fall on one of the two.
        is_open = turn % 4 in (1, 2)
        if is_open:
            page.run(11)
        with subprocess.Popen([sys.executable, "-c", BARE_PROBE], stdout=subprocess.PIPE, text=True) as beside:
            spent, *late = page.printed(12)
            assert beside.stdout is not None
            bare[is_open].append(float(beside.stdout.read()))
        if is_open:
            page.run(2)
        late.sort()
        cpu[is_open].append(spent)
        p50[is_open].append(statistics.median(late))
        p99[is_open].append(late[int(len(late) * 0.99)])
    middle = {each: statistics.median(values) for each, values in p50.items()}
    share = statistics.median(cpu[True]) - statistics.median(cpu[False])
    for what, found in (("the engine's loop", p99), ("a process beside it that does nothing else", bare)):
        ratios = [math.log(with_one / without) for without, with_one in zip(found[False], found[True], strict=True)]
        mean, error = statistics.fmean(ratios), statistics.stdev(ratios) / math.sqrt(turns)
        low, high = math.expm1(mean - 2 * error), math.expm1(mean + 2 * error)
        median = {each: statistics.median(values) for each, values in found.items()}
        print(
            f"{what} is late by {median[False]:.2f} ms (99 %) without a monitor and {median[True]:.2f} ms with one: "
            f"{math.expm1(mean):+.0%} ({low:+.0%} to {high:+.0%}, {turns} pairs of 6 s)"
        )
    print(
        f"the loop's median is {middle[False]:.2f} and {middle[True]:.2f} ms; the monitor takes {share:.1%} of a core "
        "of the kernel"
    )


def first_sights(browser: Any, address: str, started: float) -> None:
    page = Page(browser, address, "00_start_here.ipynb")
    page.run(2)
    page.run(4)
    page.page.wait_for_selector("tr[data-symbol=BTCUSDT] [data-cell=bid]:not(:empty)", timeout=60_000)
    page.page.wait_for_function(
        "() => /\\d/.test(document.querySelector('tr[data-symbol=BTCUSDT] [data-cell=bid]').textContent)",
        timeout=60_000,
    )
    print(
        f"from starting the server: first price on the page after {time.monotonic() - started:.1f} s",
        end="",
        flush=True,
    )
    for index in (6, 8, 10, 12, 14, 16):
        page.run(index)
    print(f", first closed trade after {time.monotonic() - started:.1f} s")
    page.run(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--ticks", type=int, default=1_000, help="a second, of all symbols together")
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--frames", type=int, default=15_000)
    parser.add_argument("--turns", type=int, default=12, help="pairs of the engine without and with a monitor")
    parser.add_argument("--only", choices=("tables", "leaks", "engine"), help="leave the other measurements out")
    parser.add_argument("--with", dest="prefix", help="where pip --prefix has installed ipydatagrid")
    options = parser.parse_args()
    close = "w.close(); w = None; gc.collect();"
    cycles = CYCLES.replace("print(*market.objects_and_threads())", "")
    cells = [
        SET_UP.replace("SYMBOLS", str(options.symbols)).replace("TICKS", str(options.ticks)),
        "w = m = LiveMonitor(lab); w",
        "w.close(); w = m = None; gc.collect();",
        "w = market.plain_html(lab); w",
        close,
        "w = market.data_grid(lab); w",
        close,
        FULL_PACE.format(frames=options.frames // PARTS),
        cycles.format(cycles=options.cycles, make="LiveMonitor(lab)"),
        "print(*market.objects_and_threads())",
        START_A_LAB,
        "w = m = real.monitor(); w",
        "print(*probe(6))",
        "real.stop()",
        cycles.format(cycles=options.cycles, make="ipywidgets.HTML('<b>1</b>')"),
    ]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("this benchmark needs Chromium; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="labkit-widgets-", ignore_cleanup_errors=True) as home:
        folder = Path(home)
        shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / "notebooks" / NAME)
        with jupyter(folder, options.prefix) as (address, started), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            only = {options.only} if options.only else {"tables", "leaks", "engine"}
            if not options.only:
                first_sights(browser, address, started)
            page = Page(browser, address, NAME)
            kernel = psutil.Process(int(page.page.evaluate(PROCESS)))
            family = [each for each in psutil.Process().children(recursive=True) if "chrom" in each.name()]
            page.run(0)
            reached = True
            if "tables" in only:
                reached = three_tables(page, kernel, family, options)
                print(
                    f"{'reached' if reached else 'MISSED'}: at most {OLDEST_MS:.0f} ms old (95 %), at most five "
                    "messages a second"
                )
            if "leaks" in only:
                leaks(page, options)
            if "engine" in only:
                page.run(10)
                engine(page, options.turns)
                mine = psutil.Process()
                if keep_apart(kernel, [mine, *(each for each in mine.children(recursive=True) if each != kernel)]):
                    print("the same with the kernel on a core of its own, the rest on the others:")
                    engine(page, options.turns)
                page.run(13)
            browser.close()
    sys.exit(not reached)


PROCESS = """async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({ code: '', user_expressions: { pid: "__import__('os').getpid()" } });
    return (await future.done).content.user_expressions.pid.data['text/plain'];
}"""

if __name__ == "__main__":
    main()
