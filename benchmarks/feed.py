"""What one bookTicker message costs: the CPU time of the client's process, all clients on one server, side by side.

    python benchmarks/feed.py [--rounds 3] [--only NAME ...] [--create] [--python PYTHON] [--env ENVIRONMENT=PYTHON ...]

The server (parts/feed_server.py) is a process of its own with no code of ours; every client (parts/feed_clients.py)
runs in a fresh process with the Python that has its library. *Full load* sends as fast as the client reads, 50 symbols
over a combined stream; *paced* sends 2,000 quotes a second, one at a time. What is measured is the CPU time of the
whole client process from the end of a warm-up to the last quote. Rounds are interleaved, and a ratio is the median of
the ratios within each round, so that a busy moment of the machine does not hit one client alone. The absolute figures
are this machine's; the ratios are the result.

Foreign clients live in environments of their own: `.venv-bench/NAME`, made by `--create` with `--python` (the newest
releases of some need Python 3.12 or newer), or any Python given by `--env NAME=PYTHON`. What is not there is named.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.feed_server import PACE_PER_SECOND

PARTS = Path(__file__).resolve().parent / "parts"
CACHE = PARTS.parents[1] / ".venv-bench"
SYMBOLS = 50
PACED_MESSAGES = 8_000
SYMBOLS_FOR_READING, MESSAGES_FOR_READING = 400, 2_000_000
TIMEOUT_SECONDS = 120

OWN = "own"
ENVIRONMENTS = {
    "minimal": ("websockets==17.4", "aiohttp==3.14.5", "picows==2.3.1", "msgspec==0.22.0", "uvloop==0.23.0"),
    "cryptofeed": ("cryptofeed==3.0.1",),
    "ccxt": ("ccxt==4.5.90",),
    "python-binance": ("python-binance==1.0.37",),
    "unicorn": ("unicorn-binance-websocket-api==2.16.1", "picows==2.3.1"),
    "sdk": ("binance-sdk-derivatives-trading-usds-futures==18.0.1",),
    "nautilus": ("nautilus_trader==1.231.0",),
}
"""What is installed where. The environment `own` is the Python that runs this program."""


@dataclass(frozen=True)
class Client:
    """A row of the table."""

    title: str
    name: str
    environment: str
    libraries: tuple[str, ...]
    messages: int
    on_uvloop: bool = False


YARDSTICK = Client("picows + msgspec", "picows_msgspec", "minimal", ("picows", "msgspec"), 400_000)
OURS = Client("WebSocketMonitor, 10 of 50 held", "monitor", OWN, ("websockets", "numba"), 400_000)
OURS_AT_REST = Client(
    "WebSocketMonitor, nothing held", "monitor_holding_nothing", OWN, ("websockets", "numba"), 800_000
)
FULL = (
    Client("cryptofeed", "cryptofeed", "cryptofeed", ("cryptofeed",), 60_000, True),
    Client("ccxt", "ccxt", "ccxt", ("ccxt",), 15_000),
    Client("python-binance", "python_binance", "python-binance", ("python-binance",), 30_000),
    Client("unicorn", "unicorn", "unicorn", ("unicorn-binance-websocket-api",), 40_000),
    Client("unicorn on picows", "unicorn_on_picows", "unicorn", ("unicorn-binance-websocket-api", "picows"), 80_000),
    Client("official SDK", "official_sdk", "sdk", ("binance-sdk-derivatives-trading-usds-futures",), 30_000),
    Client("nautilus_trader's data client", "nautilus", "nautilus", ("nautilus_trader",), 30_000, True),
)
"""Clients that look after subscriptions and reconnection by themselves, on the loop they recommend."""
CLIENTS = (
    Client("json, a connection a symbol", "json_per_symbol", "minimal", ("websockets",), 60_000),
    Client("websockets + msgspec + uvloop", "websockets_msgspec", "minimal", ("websockets", "uvloop"), 100_000, True),
    Client("aiohttp + msgspec", "aiohttp_msgspec", "minimal", ("aiohttp",), 200_000),
    YARDSTICK,
    Client("picows + msgspec + uvloop", "picows_msgspec", "minimal", ("picows", "uvloop"), 400_000, True),
    Client("frames split, nothing more", "bare_splitting", "minimal", (), 800_000),
    *FULL,
    OURS,
    OURS_AT_REST,
)
READING = Client("reading", "monitor_of_many", OWN, (), MESSAGES_FOR_READING)


# ------------------------------------------------------------------------------------------------------- environments


def create(environment: str, python: str) -> None:
    """Make an environment in the cache."""
    subprocess.run([python, "-m", "venv", CACHE / environment], check=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *ENVIRONMENTS[environment]]
    if subprocess.run([CACHE / environment / "bin" / "python", *install], check=False).returncode:
        # Half an environment would be taken for a whole one the next time.
        shutil.rmtree(CACHE / environment)
        print(f"{environment}: could not be installed with {python}", file=sys.stderr)


def missing(client: Client, python: str) -> str:
    """Which library of the client this Python lacks; empty if none."""
    if not Path(python).exists():
        return f"no environment {python}"
    asking = "import sys, importlib.metadata as m; [m.version(name) for name in sys.argv[1:]]"
    needed = [*client.libraries, *(["uvloop"] if client.on_uvloop else [])]
    done = subprocess.run([python, "-c", asking, *needed], check=False, capture_output=True, text=True)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


# ---------------------------------------------------------------------------------------------------------- measuring


def measure(client: Client, python: str, *, symbols: int = SYMBOLS, is_paced: bool = False) -> dict[str, Any]:
    """One run of one client against a server of its own, as parts/feed_clients.py tells it.

    Raises:
        RuntimeError: the client failed, with its last words.
    """
    count = PACED_MESSAGES if is_paced else client.messages
    serving = [sys.executable, PARTS / "feed_server.py", str(symbols), str(count), *(["--paced"] if is_paced else [])]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            reading = [python, PARTS / "feed_clients.py", client.name, server.stdout.readline().strip()]
            reading += [str(symbols), str(count), *(["--uvloop"] if client.on_uvloop else [])]
            reading += ["--versions", *client.libraries]
            done = subprocess.run(reading, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"did not see its last quote within {TIMEOUT_SECONDS} s") from error
        finally:
            server.kill()
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told | {"us": told["seconds"] / count * 1e6}


class Comparison:
    """The figures of all clients, round by round."""

    def __init__(self, pythons: dict[Client, str]) -> None:
        self.clients = list(pythons)
        self.versions: dict[Client, str] = {}
        self._pythons = pythons
        self._costs: dict[tuple[Client, bool], list[float]] = {}

    def round(self) -> None:
        """Measure every client once more, both ways; one that fails twice is named and dropped."""
        for client in list(self.clients):
            try:
                costs = [self._cost(client, is_paced) for is_paced in (False, True)]
            except RuntimeError as error:
                print(f"dropped: {client.title}: {error}")
                self.clients.remove(client)
                continue
            for is_paced, cost in zip((False, True), costs, strict=True):
                self._costs.setdefault((client, is_paced), []).append(cost)

    def _cost(self, client: Client, is_paced: bool) -> float:
        try:
            told = measure(client, self._pythons[client], is_paced=is_paced)
        except RuntimeError:
            # A busy machine may have been too slow for the warm-up.
            told = measure(client, self._pythons[client], is_paced=is_paced)
        versions = [f"{name} {version}" for name, version in told["versions"].items()]
        self.versions[client] = ", ".join([*versions, f"Python {told['python']}"])
        return float(told["us"])

    def costs(self, client: Client, is_paced: bool) -> list[float]:
        """CPU µs per message in each round."""
        return self._costs[client, is_paced]

    def ratio(self, client: Client, to: Client, is_paced: bool) -> float:
        """Of one client's cost to another's: the median over the rounds."""
        pairs = zip(self.costs(client, is_paced), self.costs(to, is_paced), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def table(self) -> Iterable[str]:
        """One line a client, both ways with median, range and multiple of the yardstick."""
        has_yardstick = YARDSTICK in self.clients
        yield f"{'CPU µs per message':<31}{'full load':^27}{f'paced {PACE_PER_SECOND}/s':^27}"
        for client in self.clients:
            cells = []
            for is_paced in (False, True):
                costs = self.costs(client, is_paced)
                ratio = f"x{self.ratio(client, YARDSTICK, is_paced):.2f}" if has_yardstick else ""
                cells.append(f"{statistics.median(costs):8.2f} [{min(costs):.2f}-{max(costs):.2f}]".ljust(25) + ratio)
            yield f"{client.title:<31}" + "  ".join(f"{cell:<32}" for cell in cells) + self.versions[client]

    def goals(self) -> Iterable[str]:
        """Ours against the goals."""
        full = [client for client in FULL if client in self.clients]
        cheapest = min(full, key=lambda client: statistics.median(self.costs(client, False)), default=None)
        goals = [
            ("full load", YARDSTICK, False, 1.5),
            ("full load", cheapest, False, 1 / 3),
            ("paced", YARDSTICK, True, 1.2),
        ]
        for ours in (OURS, OURS_AT_REST):
            for way, other, is_paced, most in goals:
                if ours not in self.clients or other not in self.clients:
                    yield f"goal: {way}: not judged; {ours.title} or what it is compared with was not measured"
                    continue
                ratio = self.ratio(ours, other, is_paced)
                verdict = "reached" if ratio <= most else "MISSED"
                yield f"goal: {way}: {ours.title} costs {ratio:.2f} x {other.title} (at most {most:.2f}): {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[client.name for client in CLIENTS], default=[])
    parser.add_argument("--create", action="store_true", help="make the environments that are not there")
    parser.add_argument("--python", default=sys.executable, help="what --create makes them with")
    parser.add_argument("--env", nargs="*", default=[], metavar="ENVIRONMENT=PYTHON")
    options = parser.parse_args()

    pythons = {name: str(CACHE / name / "bin" / "python") for name in ENVIRONMENTS} | {OWN: sys.executable}
    for given in options.env:
        name, _, python = given.partition("=")
        if name not in pythons:
            parser.error(f"--env {given}: the environments are {', '.join(pythons)}")
        pythons[name] = python
    for name in ENVIRONMENTS:
        if options.create and not Path(pythons[name]).exists():
            create(name, options.python)
    chosen, has_missing = {}, False
    for client in CLIENTS:
        if options.only and client.name not in options.only:
            continue
        if lacking := missing(client, pythons[client.environment]):
            print(f"not installed: {client.title}: {lacking}")
            has_missing = True
        else:
            chosen[client] = pythons[client.environment]
    if has_missing:
        print("--create makes environments for them")
    comparison = Comparison(chosen)
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        comparison.round()
    print(*comparison.table(), *comparison.goals(), sep="\n")
    if options.only and OURS.name not in options.only:
        return
    notes = measure(READING, pythons[OWN], symbols=SYMBOLS_FOR_READING)["notes"]
    print(f"get_quote: {notes['new_us']:.2f} µs for a new quote, {notes['again_us']:.2f} µs again")
    print(
        f"memory: {notes['mb']:.0f} MB, {notes['grown_mb']:+.2f} MB over the last three quarters of"
        f" {MESSAGES_FOR_READING:,} quotes of {SYMBOLS_FOR_READING} symbols"
    )


if __name__ == "__main__":
    main()
