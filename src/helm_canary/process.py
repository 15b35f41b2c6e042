"""The only place that starts a process: its environment, its time limit, its end, and what of it may be shown."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from helm_canary.errors import (
    UNAUTHORIZED,
    CanaryError,
    ToolError,
    ToolMissingError,
    ToolTimeoutError,
    is_away,
    is_unauthorized,
)
from helm_canary.rights import advice, forbidden

GRACE_S = 3.0
RETRY_S = 1.0
UNKNOWN_KIND = "the server doesn't have a resource type"
# To end helm, say where the traffic is and release the Lease. A CI gives a cancelled step little more than five seconds in all.
AFTER_INTERRUPT_S = 4.0
LEAST_S = 0.3
LOOK_S = 0.1
OUTPUT_LINES_SHOWN = 20
# What helm, kubectl and the credential plugins of a kubeconfig need; everything else, secrets above all, stays here.
PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "KUBECONFIG", "KUBECACHEDIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DOCKER_CONFIG", "AZURE_CONFIG_DIR", "USERPROFILE", "APPDATA",
    "LOCALAPPDATA", "SYSTEMROOT", "SystemRoot", "PATHEXT", "COMSPEC",
)  # fmt: skip
PASSED_PREFIX = "HELM_"
# Ours, and what would send helm to another cluster, account or namespace than kubectl.
NOT_PASSED_ON = ("HELM_CANARY_", "HELM_KUBE", "HELM_NAMESPACE")


def is_passed_on(name: str) -> bool:
    """Whether a variable of ours may be one of helm's and kubectl's."""
    return name in PASSED_ON or (name.startswith(PASSED_PREFIX) and not name.startswith(NOT_PASSED_ON))


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a process left: its exit code and its whole output, decoded leniently.

    renewed  its credentials were refused, and there are other ones now
    """

    code: int
    stdout: str
    stderr: str
    renewed: bool = False


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where kubectl and helm find the cluster and the namespace; empty: their own defaults."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""

    def kubectl(self, *arguments: str, namespace: str | None = None) -> list[str]:
        return ["kubectl", *self._flags("--context"), *self._namespace(namespace), *arguments]

    def helm(self, *arguments: str) -> list[str]:
        return ["helm", *arguments, *self._flags("--kube-context"), *self._namespace(None)]

    def _flags(self, context_flag: str) -> list[str]:
        flags = ["--kubeconfig", self.kubeconfig] if self.kubeconfig else []
        return flags + ([context_flag, self.context] if self.context else [])

    def _namespace(self, other: str | None) -> list[str]:
        wanted = self.namespace if other is None else other
        return ["--namespace", wanted] if wanted else []


@dataclass
class Processes:
    """Starts processes and ends those that still run. Thread-safe: reads go side by side.

    environment  what every child gets, nothing else
    echo         told of a command that changes something, as a person would type it
    patience_s   how long an API server that has answered once may be away before what only reads fails
    away         told that it is away, in seconds since then
    renew        asked for other credentials when the API server took none from a command that began then; whether there are any
    explain      what is behind a failure, where whoever made the credentials knows more than the tool says
    """

    environment: Mapping[str, str]
    echo: Callable[[str], None] = lambda command: None
    patience_s: float = 0.0
    away: Callable[[float], None] = lambda since_s: None
    renew: Callable[[float], bool] = lambda began: False
    explain: Callable[[ToolError], CanaryError] = lambda error: error
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    # A signal handler may need it while the thread it interrupts holds it.
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _until: float = math.inf
    _answered: bool = False
    _worked: set[tuple[str, ...]] = field(default_factory=set)
    _starting: bool = False
    _cancelled: CanaryError | None = None

    def run(self, arguments: Sequence[str], *, stdin: str = "", timeout_s: float = 60.0, shown: bool = False,
            check: bool = True, once: bool = False, environment: Mapping[str, str] | None = None) -> Completed:  # fmt: skip
        """Run to the end, with `environment` added to what every child gets.

        Raises ToolMissingError, ToolTimeoutError, and ToolError for an exit code but 0 when `check`.
        While the API server is away the command is run again, unless it may run only `once`.
        """
        if shown:
            self.echo(shown_command(arguments))
        began, done = time.monotonic(), None
        while done is None:
            last = once or not self._answered or self._until < math.inf
            last = last or time.monotonic() - began > self.patience_s
            done = self._attempt(arguments, stdin, timeout_s, once, last, environment or {})
            if done is None:
                self.away(time.monotonic() - began)
                time.sleep(RETRY_S)
        # What does not ask the API server, such as `helm version`, says nothing of it.
        self._answered = self._answered or (done.code == 0 and arguments[0] == "kubectl" and "get" in arguments)
        if done.code == 0:
            self._worked.add(tuple(arguments))
        if check and done.code != 0:
            raise tool_error(arguments, done)
        return done

    def _attempt(
        self, arguments: Sequence[str], stdin: str, timeout_s: float, once: bool, last: bool, more: Mapping[str, str]
    ) -> Completed | None:
        """None where the API server is away and the command is to be run again."""
        began = time.monotonic()
        try:
            done = self._run_once(arguments, stdin, timeout_s, more)
            if done.code != 0 and is_unauthorized(done.stderr) and self.renew(began):
                if once and arguments[0] == "helm":
                    # Whom nobody knows has written nothing, but of helm's many requests an earlier one may have been let in.
                    return replace(done, renewed=True)
                done = self._run_once(arguments, stdin, timeout_s, more)
        except ToolTimeoutError:
            if last:
                raise
            return None
        # An API server that has just started does not know its custom resources yet.
        starts = tuple(arguments) in self._worked and UNKNOWN_KIND in done.stderr
        return None if not last and done.code != 0 and (starts or is_away(done.stderr)) else done

    def _run_once(self, arguments: Sequence[str], stdin: str, timeout_s: float, more: Mapping[str, str]) -> Completed:
        timeout_s = min(timeout_s, max(self._until - time.monotonic(), LEAST_S))
        process = self._start(arguments, stdin, more)
        try:
            self._raise_if_cancelled()
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._end(process)
            _close_pipes(process)
            raise ToolTimeoutError(
                f"`{_short(arguments)}` did not end within {timeout_s:.3g} s.",
                "The API server is slow or cannot be reached, or a webhook hangs.",
                "Run the same command again. If it ends so again, try the helm or kubectl command by hand.",
            ) from None
        except BaseException:
            self._end(process)
            _close_pipes(process)
            raise
        finally:
            with self._lock:
                self._running.discard(process)
        return Completed(
            code=process.returncode, stdout=out.decode(errors="replace"), stderr=err.decode(errors="replace")
        )

    def _start(self, arguments: Sequence[str], stdin: str, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
        try:
            if _is_main_thread():
                self._starting = True
            # A session of its own: Ctrl-C at a terminal must reach us alone, so that helm is ended in order.
            with _whole(stdin) as given:
                process = subprocess.Popen(
                    list(arguments),
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**self.environment, **more},
                    start_new_session=True,
                )
            with self._lock:
                self._running.add(process)
        except OSError as error:
            raise _not_started(arguments[0], error) from None
        finally:
            if _is_main_thread():
                self._starting = False
        return process

    @contextlib.contextmanager
    def beside(
        self, arguments: Sequence[str], sign: re.Pattern[str], *, timeout_s: float = 10.0
    ) -> Iterator[re.Match[str]]:
        """Run until the block ends; what it gets is the first line of output that matches, which means that it is ready.

        Raises ToolMissingError, ToolError where it ends before such a line, ToolTimeoutError where none comes in time.
        """
        timeout_s = min(timeout_s, max(self._until - time.monotonic(), LEAST_S))
        process = self._start(arguments, "", {})
        streams = _Streams(process)
        try:
            self._raise_if_cancelled()
            found = streams.wait_for(sign, timeout_s)
            if found is None:
                raise _not_ready(arguments, process.poll(), streams.stderr(), timeout_s)
            yield found
        finally:
            self._end(process)
            streams.close()
            with self._lock:
                self._running.discard(process)

    def cancel(self, error: CanaryError) -> None:
        """For a signal handler: ask all to end, without waiting, and raise this.

        A process that is just being started must be known first: else a helm would go on behind the back of a command that ends.
        """
        self._cancelled = error
        if not self._starting:
            self._raise_if_cancelled()

    def _raise_if_cancelled(self) -> None:
        if self._cancelled is not None and _is_main_thread():
            error, self._cancelled = self._cancelled, None
            self._until = time.monotonic() + AFTER_INTERRUPT_S
            self.ask_to_end()
            raise error

    def ask_to_end(self) -> None:
        """SIGTERM to whatever runs, without waiting."""
        with self._lock:
            for process in self._running:
                send(process)

    def end_all(self) -> None:
        """End whatever still runs: SIGTERM first, so that helm can mark its revision, then SIGKILL."""
        with self._lock:
            running = list(self._running)
        for process in running:
            self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        for at_once in (False, True):
            if not send(process, at_once=at_once):
                return
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                continue
            # Its own children may have stayed behind: credential plugins, a shell's command.
            send(process, at_once=True)
            return


class _Streams:
    """Reads both outputs of a process as they come, so that it never waits for a reader."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        readers = ((process.stdout, self._lines.put), (process.stderr, self._errors.append))
        self._threads = [threading.Thread(target=_read_lines, args=reader, daemon=True) for reader in readers]
        for thread in self._threads:
            thread.start()

    def wait_for(self, sign: re.Pattern[str], timeout_s: float) -> re.Match[str] | None:
        """The first line of the output that matches; None where the process ends before, or the time does."""
        until = time.monotonic() + timeout_s
        while True:
            reads, left = self._threads[0].is_alive(), until - time.monotonic()
            try:
                line = self._lines.get(timeout=max(min(LOOK_S, left), 0.0))
            except queue.Empty:
                if reads and left > 0:
                    continue
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(LEAST_S)
                return None
            if found := sign.search(line):
                return found

    def stderr(self) -> str:
        """Whole, of a process that has ended."""
        self._threads[1].join(LEAST_S)
        return "".join(self._errors)

    def close(self) -> None:
        """Of a process that has ended."""
        for thread in self._threads:
            thread.join(GRACE_S)
        if not any(thread.is_alive() for thread in self._threads):
            _close_pipes(self._process)


def _read_lines(stream: IO[bytes], keep: Callable[[str], None]) -> None:
    for line in stream:
        keep(line.decode(errors="replace"))


def send(process: subprocess.Popen[Any], *, at_once: bool = False) -> bool:
    """SIGTERM, or SIGKILL, to a process and its children; Windows ends the process alone. Whether it was still there."""
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _is_main_thread() -> bool:
    """Where Python runs the handlers of signals."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _whole(stdin: str) -> Iterator[IO[bytes]]:
    """What a child reads, whole before it starts: of a pipe, helm would read nothing, and no record, were we killed then."""
    with tempfile.TemporaryFile() as file:
        file.write(stdin.encode())
        file.seek(0)
        yield file


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Of a process that was ended before its output had been read."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _not_ready(arguments: Sequence[str], code: int | None, stderr: str, timeout_s: float) -> ToolError:
    """Why a process that was to run beside gave no sign: it ended, with this code, or it did not come so far in time."""
    if code is not None:
        return tool_error(arguments, Completed(code=code, stdout="", stderr=stderr))
    return ToolTimeoutError(
        f"`{_short(arguments)}` was not ready within {timeout_s:.3g} s.",
        "The API server is slow, or the node cannot be reached.",
        "Try the command by hand; then run the same command again.",
    )


def _not_started(program: str, error: OSError) -> ToolMissingError:
    if error.errno == errno.E2BIG:
        return ToolMissingError(
            f"`{program}` could not be started: {error.strerror}.",
            "The values given with --set are longer than the system lets a command line be.",
            "Move them to a file, and give it with --values.",
        )
    if isinstance(error, FileNotFoundError):
        happened, means = f"The program `{program}` was not found.", f"{program} is not installed, or not on PATH."
    else:
        happened = f"The program `{program}` could not be started: {error.strerror}."
        means = "The first file of that name on PATH is not a program for this machine, or is not executable."
    return ToolMissingError(
        happened, means, "Install it (Helm 4, kubectl), put it on PATH, and run the same command again."
    )


def tool_error(arguments: Sequence[str], done: Completed) -> ToolError:
    """What a failed helm or kubectl said, in three parts where the cause is known."""
    stderr = done.stderr.strip() or done.stdout.strip()
    lines = tuple(QUOTED_YAML.sub(r"\1***", line) for line in stderr.splitlines()[-OUTPUT_LINES_SHOWN:])
    means, do_next = _cause(stderr)
    missing = forbidden(stderr)
    if missing:
        do_next = advice(missing)
    place = template_place(stderr)
    at = f" at {place}" if place else ""
    happened = f"`{_short(arguments)}` failed with exit code {done.code}{at}."
    return ToolError(happened, means, do_next, lines, stderr=stderr, renewed=done.renewed)


_TEMPLATE = (
    re.compile(r"execution error at \(([^()\s]+:\d+:\d+)\)"),  # `fail` and `required`
    re.compile(
        r"^(?:Error: )?([^:\s]+:\d+:\d+)\n +executing ", re.MULTILINE
    ),  # what a template cannot do, the innermost last
    re.compile(r"parse error at \(([^()\s]+)\)"),
    re.compile(r"YAML parse error on ([^:\s]+)"),
)


def template_place(stderr: str) -> str:
    """The template, with line and column where Helm gives them, that it could not render; empty where it was something else."""
    for pattern in _TEMPLATE:
        if found := pattern.findall(stderr):
            return str(found[-1])
    return ""


CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        "execution error at (",
        "A template ends the rendering itself (`fail`, `required`): the chart asks for something that is not given.",
        "Give the value that its message names, with --values or --set, or correct the template.",
    ),
    (
        "no repository definition",
        "The chart has a dependency of a repository that Helm does not know on this machine.",
        "Add it with `helm repo add`, as the message says; then run the same command again.",
    ),
    (
        "no matches for kind",
        "The cluster does not have a kind of object in the version that is asked for: it was removed, or its CRDs are missing.",
        "Write a version that `kubectl api-resources` lists, or install the CRDs; then run the same command again.",
    ),
    (
        "context was not found",
        "The context is not in the kubeconfig.",
        "`kubectl config get-contexts` lists the names.",
    ),
    (
        "does not exist",
        "A context, file or object that was given does not exist.",
        "Correct the one that the message below names: --context, --kubeconfig, --chart or --values.",
    ),
    (
        "duplicate entries for key",
        "A list of the chart holds one item twice, such as two variables of one name, which no server-side apply takes.",
        "Take one of the two out of the chart; of two variables the later one holds.",
    ),
    (
        "exceeded quota",
        "The namespace's quota leaves no room for this.",
        "Raise the ResourceQuota, or lower replicas or requests.",
    ),
    (
        "denied the request",
        "An admission webhook rejects an object that was to be written.",
        "Correct what its message below names, then run the same command again.",
    ),
    (
        "denied request",
        "An admission policy rejects an object that was to be written.",
        "Correct what its message below names, then run the same command again.",
    ),
    (
        "is forbidden",
        "The account is not allowed to do this.",
        "Add the right that the message names to the account's Role.",
    ),
    *(
        (
            sign,
            "The API server does not accept the credentials.",
            "Renew the credentials in the kubeconfig, then run the same command again.",
        )
        for sign in UNAUTHORIZED
    ),
    (
        "the server doesn't have a resource type",
        "A kind of object is not installed in the cluster; most often Istio's.",
        "Install Istio in the cluster, or choose another --context.",
    ),
    (
        "another operation",
        "A helm command for this release is at work, or was killed in the middle.",
        "Wait until it has finished, then run the same command again.",
    ),
    (
        "connection refused",
        "The API server cannot be reached.",
        "Check the address in the kubeconfig and the network, then run the same command again.",
    ),
    ("no such host", "The API server's name is not known.", "Check the kubeconfig and the network."),
    (
        "additional properties 'release' not allowed",
        "The chart's values.schema.json forbids `release`, where the record of a release is kept.",
        'Add to the top level of its "properties": "release": {"type": "object"}.',
    ),
    (
        "values don't meet the specifications of the schema",
        "A value is misspelt or of the wrong type.",
        "Correct the value.",
    ),
    ("chart.yaml file is missing", "The folder holds no Helm chart.", "Give the chart's folder with --chart."),
    ("unable to detect chart", "The folder holds no Helm chart.", "Give the chart's folder with --chart."),
    (
        "interface conversion",
        "A values file, or --set, gives a map of the chart as something else, such as `productionDeployment: 5`.",
        "Correct the value; `helm show values` shows the chart's own.",
    ),
    (
        "no such file",
        "A file or folder that was given does not exist.",
        "Correct the one that the message below names: --chart, --values or --kubeconfig.",
    ),
    (
        "not found",
        "A chart, file or object that was given does not exist.",
        "Correct the one that the message below names: --chart, --values or --kubeconfig.",
    ),
)


def _cause(stderr: str) -> tuple[str, str]:
    lowered = stderr.lower()
    for sign, means, do_next in CAUSES:
        if sign.lower() in lowered:
            return means, do_next
    return "The message below is the tool's own.", "Correct what it names, then run the same command again."


# Of a template that makes no valid YAML nobody knows yet what came from a Secret: go-yaml quotes from whatever it reads.
QUOTED_YAML = re.compile(r"""(unknown anchor |cannot unmarshal !!\w+ )(?:'[^']*'|`[^`]*`)""")
SENSITIVE = re.compile(r"(?i)(pass|secret|token|credential|key|auth)[^=,]*=(\{(\\.|[^}])*\}|(\\.|[^,])*)")


def shown_command(arguments: Sequence[str]) -> str:
    """A command as a person would type it, without values whose name says that they are secret."""
    return shlex.join(SENSITIVE.sub(lambda found: found.group(0).split("=", 1)[0] + "=***", word) for word in arguments)


def _short(arguments: Sequence[str]) -> str:
    """The command without what a reader does not need: the first words."""
    text = shown_command(arguments)
    return text if len(text) <= 100 else text[:97] + "..."
