"""The release that the demo shows: 84 over 83 stage by stage, then a bad 85 and a rollback, all under traffic."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo.load import Load
from demo.places import HOST, NAMESPACE, RPS, DemoError, Place, Wish, make_namespace, ready_counts
from demo.screen import REFRESH_S, Look, Screen
from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from tests.cluster import table

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts/productpage"
RELEASE = "productpage"
DEPLOYMENTS = {"production": "productpage", "canary": "productpagecanary"}
SPLIT_OVER_MS = 2000
LINGER_S = 4.0
READ_EVERY_S = 1.0
GATE_LIMIT_S = 600.0
# Kept below the load generator's own longest time, so that the table is whole.
WHOLE_LIMIT_S = 1500.0
COMMAND_LIMIT_S = 300.0
END_LIMIT_S = 45.0
BAR, FULL, EMPTY = 20, "█", "░"
FAILED_ON_A_HEALTHY_VERSION = 4


class QuitError(Exception):
    """The user answered `q`, or nobody answered."""


@dataclass
class Walk:
    """One demo. `problems` is what went otherwise than it should have."""

    wish: Wish
    place: Place
    screen: Screen
    folder: Path
    problems: list[str] = field(default_factory=list)
    _load: Load | None = None
    _ready: dict[str, str] = field(default_factory=dict)
    _began_s: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """From the installation to the table."""
        old, new, bad = self.wish.tags
        show = self.screen
        show.line(f"productpage on {self.place.name}", Look.TITLE)
        make_namespace(self.place)
        show.line(f"\n$ helm-canary stage steady --tag {old}", Look.TITLE)
        if self._tool("stage", "steady", "--tag", old) != 0:
            raise DemoError("The installation failed; its lines are above.")
        with self._traffic(), self._watched():
            show.line(f"{RPS} requests a second go through the gateways from now on.")
            self._linger()
            try:
                if self._forward(new):
                    self._bad(bad)
            except QuitError:
                show.line("Quitting.")
            self._account()

    # --- the two releases ----------------------------------------------------------------------------------------

    def _forward(self, tag: str) -> bool:
        """Stage after stage with a gate before each; False when it was rolled back instead."""
        for stage in stages_for(DEFAULT_WEIGHTS)[1:]:
            self._foresee(stage.name, tag)
            answer = self._ask(f"approve stage {stage.number} ({stage.name})? [Enter: yes, r: roll back, q: quit]")
            if answer == "r":
                self._rollback(f"rollback from {stage.number - 1}")
                return False
            self._move(f"{stage.number - 1} -> {stage.number} {stage.name}", 0, "stage", stage.name, "--tag", tag)
        return True

    def _bad(self, tag: str) -> None:
        """A version that is never Ready gets no traffic, and one command takes it away."""
        self.screen.line(f"\nNow {tag}, a version that never becomes Ready.", Look.TITLE)
        self._ask("try it? [Enter: yes, q: quit]")
        sets = [word for pair in self.place.bad_values for word in ("--set", pair)]
        stage, wanted = stages_for(DEFAULT_WEIGHTS)[1].name, FAILED_ON_A_HEALTHY_VERSION
        self._move(f"1 -> 2 with {tag}, never Ready", wanted, "stage", stage, "--tag", tag, "--timeout", "15s", *sets)
        self._ask("roll back? [Enter: yes, q: quit]")
        self._rollback(f"rollback of {tag}")

    def _rollback(self, name: str) -> None:
        self._move(name, 0, "rollback")

    def _foresee(self, stage: str, tag: str) -> None:
        """What approving will do: the steps of `plan`."""
        done = subprocess.run(
            self._words("plan", stage, "--tag", tag, "--output", "json"),
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            env=self.place.environment(),
            cwd=ROOT,
        )
        try:
            plan = json.loads(done.stdout)["plans"][0]
        except (ValueError, KeyError, IndexError):
            self.screen.detail(done.stderr.strip())
            return
        self.screen.line(pictured=False)
        self.screen.detail(f"plan of stage {stage}:")
        for number, step in enumerate(plan.get("steps", ()), start=1):
            self.screen.detail(f"  {number}. {step}")

    def _ask(self, question: str) -> str:
        left = self._began_s + WHOLE_LIMIT_S - time.monotonic()
        answer = self.screen.ask(question, self._status, min(GATE_LIMIT_S, max(left, 0)))
        if answer == "q":
            raise QuitError
        return answer

    # --- one command ---------------------------------------------------------------------------------------------

    def _move(self, name: str, wanted: int, *words: str) -> None:
        """One helm-canary command; its requests are counted under `name`. Another exit code than `wanted` is a problem."""
        assert self._load is not None
        self._load.mark(name)
        self.screen.line(f"$ helm-canary {' '.join(words)}", Look.TITLE)
        code = self._tool(*words)
        if code != wanted:
            self.problems.append(f"`helm-canary {' '.join(words)}` ended with {code}, not {wanted}")
            self.screen.line(f"  exit code {code}, expected was {wanted}", Look.BAD)
        self._linger()
        if code != wanted:
            raise QuitError

    def _words(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "helm_canary", *words, "--release", RELEASE, "--namespace", NAMESPACE]
        command += [*self.place.tool_flags, "--drain", "5s"]
        if words[0] != "rollback":
            command += ["--chart", str(CHART), "--values", str(self._values())]
            command += ["--values", str(Path(self.wish.values).resolve())] if self.wish.values else []
        return self.place.command(*command)

    def _values(self) -> Path:
        """The demo's own values: its image, a host of its own, and the gateway's labels."""
        path = self.folder / "values.yaml"
        key, value = self.place.gateway.split("=", 1)
        image = {"repository": self.place.image}
        selector = {"istio": None, key: value} if key != "istio" else {key: value}
        values = {
            "productionDeployment": {"replicaCount": 2, "image": image},
            "canaryDeployment": {"image": image},
            "gateway": {"mesh": False, "hosts": [HOST], "selector": selector},
        }
        path.write_text(json.dumps(values))
        return path

    def _tool(self, *words: str) -> int:
        """Run it to its end and show its lines as they come, and the traffic meanwhile."""
        # A session of its own: Ctrl-C at the terminal must not reach it at the same time as the demo.
        process = subprocess.Popen(
            self._words(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.place.environment(),
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            return self._follow(process)
        except BaseException:
            _end(process)
            raise

    def _follow(self, process: subprocess.Popen[str]) -> int:
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(process, lines), daemon=True).start()
        until = time.monotonic() + COMMAND_LIMIT_S
        while time.monotonic() < until:
            try:
                line = lines.get(timeout=REFRESH_S)
            except queue.Empty:
                self._show_status()
                continue
            if line is None:
                return process.wait(END_LIMIT_S)
            self._show(line)
        raise DemoError(f"The command did not end within {COMMAND_LIMIT_S:.0f} s.")

    def _show(self, line: str) -> None:
        """The tool says its plan before it begins, which was shown at the gate: only what is done is shown here."""
        look = Look.BAD if line.startswith("error:") else Look.GOOD if line.startswith(("done:", "first")) else None
        if look is not None:
            self.screen.line(f"  {line}", look, pictured=look is Look.BAD)
        elif line.startswith(("[", "  $", "note:", "Traffic:", "  |", "  what", "  waiting")):
            self.screen.detail(f"  {line}")

    # --- traffic and pods ----------------------------------------------------------------------------------------

    @contextmanager
    def _traffic(self) -> Iterator[None]:
        with self.place.load() as load:
            self._load = load
            load.mark(f"{self.wish.tags[0]} alone")
            yield

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Reads in the background how many pods are Ready."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(READ_EVERY_S if self._ready else 0):
                self._ready = ready_counts(self.place, list(DEPLOYMENTS.values()))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join(15)

    def _linger(self) -> None:
        """Time to see what the split came to; at a gate the user takes that time himself."""
        until = time.monotonic() + LINGER_S
        while time.monotonic() < until:
            time.sleep(REFRESH_S)
            self._show_status()
        self.screen.line(f"  {self._status()}", Look.LIVE)

    def _show_status(self) -> None:
        if self._load is not None:
            self.screen.live(f"  {self._status()}")

    def _status(self) -> str:
        """The split of the last two seconds, the pods, and the account so far, in one line."""
        assert self._load is not None
        requests = self._load.requests()
        now_ms = time.time_ns() // 1_000_000
        latest = [request for request in requests[-RPS * 4 :] if now_ms - request.sent_ms <= SPLIT_OVER_MS]
        answered = Counter(request.version for request in latest if not request.lost)
        lost = sum(request.lost for request in requests)
        split = _bar(answered, self.wish.tags)
        ready = ", ".join(f"{track} {self._ready.get(name, '?')}" for track, name in DEPLOYMENTS.items())
        return f"{split}   Ready: {ready}   {len(requests):,} sent, {lost} lost"

    def _account(self) -> None:
        """The table, and whether it is as it should be."""
        assert self._load is not None
        moves = self._load.report()
        sent, lost = sum(move.sent for move in moves), sum(move.lost for move in moves)
        lines = table(moves).splitlines()
        # Where nothing was lost there is nothing to say of what and when.
        width = lines[0].find("  statuses that lost") if not lost else len(lines[0])
        self.screen.line()
        for line in lines:
            self.screen.line(line[:width])
        self.screen.line(f"\n{lost} of {sent:,} requests lost.", Look.BAD if lost else Look.GOOD)
        if lost:
            self.problems.append(f"{lost} requests were lost")


def _bar(answered: Counter[str], tags: Sequence[str]) -> str:
    """`83  90 % ████████░ 10 % 84`: who answered how much; a version that the service does not name goes by its track."""
    known = [tag for tag in dict.fromkeys(tags) if answered[tag]]
    versions = known + sorted(version for version in answered if version not in known)
    shares = [answered[version] / answered.total() for version in versions]
    if len(versions) != 2:
        return "  ".join(f"{v} {100 * share:3.0f} % {FULL * BAR}" for v, share in zip(versions, shares, strict=True))
    left = round(shares[0] * BAR)
    bar = FULL * left + EMPTY * (BAR - left)
    return f"{versions[0]} {100 * shares[0]:3.0f} % {bar} {100 * shares[1]:.0f} % {versions[1]}"


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C would; it ends its helm in order and says where the traffic is."""
    for number, limit_s in ((signal.SIGINT, END_LIMIT_S), (signal.SIGKILL, 5.0)):
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(limit_s)
            return
        except subprocess.TimeoutExpired:
            continue


def explain(wish: Wish) -> Sequence[str]:
    old, new, bad = wish.tags
    return (
        f"A release of {new} over {old} in seven stages under {RPS} requests a second, then {bad}, which is never Ready.",
        "Each gate shows what approving will do. Ctrl-C or q ends the demo and removes all of it. About three minutes.",
    )
