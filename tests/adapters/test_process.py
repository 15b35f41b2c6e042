"""Processes: their time limit, their end, their output, and what of a command is shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from helm_canary import process
from helm_canary.errors import (
    CancelledError,
    RefusedError,
    ToolError,
    ToolMissingError,
    ToolTimeoutError,
    is_away,
    is_unauthorized,
)
from helm_canary.process import Completed, Connection, Processes, shown_command, template_place, tool_error

ENVIRONMENT = {"PATH": os.environ["PATH"], "SEEN": "yes"}
PYTHON = sys.executable


@pytest.fixture
def processes() -> Processes:
    return Processes(environment=ENVIRONMENT)


def script(text: str) -> list[str]:
    return [PYTHON, "-c", text]


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and was not asked for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Whether it ends soon."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_output_input_and_code_are_handed_on(processes: Processes) -> None:
    """Both streams, what was given on standard input, and the exit code."""
    done = processes.run(
        script("import sys; print(sys.stdin.read()); print('b', file=sys.stderr); sys.exit(7)"),
        stdin="ä😀",
        check=False,
    )

    assert (done.code, done.stdout, done.stderr) == (7, "ä😀\n", "b\n")


def test_a_child_sees_only_the_environment_that_it_was_given(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of a pipeline stay here."""
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "hunter2")

    done = processes.run(script("import os; print(sorted(name for name in os.environ if not name.startswith('LC_')))"))

    assert done.stdout == "['PATH', 'SEEN']\n"


def test_huge_output_on_both_streams_is_read(processes: Processes) -> None:
    """More than a pipe holds, on both at once, and as much on standard input, is no deadlock."""
    size = 8_000_000
    text = f"import sys; n = len(sys.stdin.read()); sys.stderr.write('e' * {size}); sys.stdout.write('o' * n)"

    done = processes.run(script(text), stdin="i" * size)

    assert (len(done.stdout), len(done.stderr)) == (size, size)


def test_a_child_that_does_not_read_its_input_is_no_error(processes: Processes) -> None:
    """helm may end before it has read the record."""
    assert processes.run(script("pass"), stdin="i" * 8_000_000).code == 0


def test_what_a_child_reads_is_whole_after_the_death_of_its_parent(tmp_path: Path) -> None:
    """A helm that goes on alone has its record: were the rest of it missing, it would release without one."""
    began, read, size = tmp_path / "began", tmp_path / "read", 1_000_000
    child = f"import pathlib, sys, time; pathlib.Path({str(began)!r}).touch(); time.sleep(0.5); "
    child += f"pathlib.Path({str(read)!r}).write_text(str(len(sys.stdin.read())))"
    parent = "from helm_canary.process import Processes; "
    parent += f"Processes(environment={{}}).run({script(child)!r}, stdin='r' * {size})"
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(script(parent), env=environment) as running:
        deadline = time.monotonic() + 10
        while not began.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        running.kill()
    while not (read.exists() and read.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert read.read_text() == str(size)


def test_output_that_is_no_text_is_read_leniently(processes: Processes) -> None:
    """Bytes that are no UTF-8 are replaced, not a traceback."""
    done = processes.run(script(r"import sys; sys.stdout.buffer.write(b'a\xff\xfeb')"))

    assert done.stdout == "a��b"


def test_a_failure_has_three_parts_and_the_last_lines(processes: Processes) -> None:
    """The command, its code, a cause where one is known, and what it said."""
    with pytest.raises(ToolError) as told:
        processes.run(script("import sys; sys.exit('\\n'.join(f'line {n}' for n in range(100)))"))

    assert "failed with exit code 1" in told.value.happened
    assert told.value.means
    assert told.value.do_next
    assert told.value.details[-1] == "line 99"
    assert len(told.value.details) == process.OUTPUT_LINES_SHOWN


def test_a_missing_program_is_told(processes: Processes) -> None:
    """Not found, and not a traceback."""
    with pytest.raises(ToolMissingError, match=r"`no-such-program` was not found"):
        processes.run(["no-such-program", "x"])


@pytest.mark.parametrize(("mode", "content"), [(0o644, "#!/bin/sh\n"), (0o755, "no program"), (0o755, "")])
def test_what_is_no_program_is_told(mode: int, content: str, processes: Processes, tmp_path: Path) -> None:
    """A file that may not be run, or is none, or a folder."""
    path = tmp_path / "helm"
    path.write_text(content)
    path.chmod(mode)
    for target in (path, tmp_path):
        with pytest.raises(ToolMissingError, match="could not be started") as told:
            processes.run([str(target)])
        assert told.value.means


def test_arguments_that_are_too_long_are_told(processes: Processes) -> None:
    """A --set of a megabyte is the system's limit, and the way on is a values file."""
    with pytest.raises(ToolMissingError, match="could not be started") as told:
        processes.run([PYTHON, "-c", "pass", "x" * 4_000_000])

    assert "--values" in told.value.do_next


def test_the_time_limit_ends_a_process(processes: Processes, tmp_path: Path) -> None:
    """A process that does not end is ended, and the error says how long it had."""
    note = tmp_path / "pid"
    with pytest.raises(ToolTimeoutError, match=r"did not end within 4 s"):
        processes.run(
            script(
                f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
            ),
            timeout_s=4,
        )

    assert ends(int(note.read_text()))


STUBBORN = "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
STUBBORN += "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.3)


@pytest.mark.usefixtures("impatient")
def test_a_child_that_ignores_sigterm_is_killed(processes: Processes, tmp_path: Path) -> None:
    """After its grace time it gets the signal that nobody can ignore."""
    note = tmp_path / "pid"
    with pytest.raises(ToolTimeoutError):
        processes.run([*script(STUBBORN), str(note)], timeout_s=1)

    assert ends(int(note.read_text()))


@pytest.mark.usefixtures("impatient")
def test_a_grandchild_that_ignores_sigterm_is_killed_too(processes: Processes, tmp_path: Path) -> None:
    """helm's plugins and a kubeconfig's credential programs do not stay behind when helm goes."""
    note, inner = tmp_path / "pid", script(STUBBORN)
    outer = f"import subprocess; subprocess.run({[*inner, str(note)]!r})"
    with pytest.raises(ToolTimeoutError):
        processes.run(script(outer), timeout_s=1.5)

    assert ends(int(note.read_text()))


def test_sigterm_comes_first(processes: Processes, tmp_path: Path) -> None:
    """helm gets the time to mark its revision."""
    note, said = tmp_path / "pid", tmp_path / "said"
    text = (
        "import pathlib, signal, sys, time\n"
        f"def end(*_):\n    pathlib.Path({str(said)!r}).write_text('marked'); sys.exit(1)\n"
        f"signal.signal(signal.SIGTERM, end); pathlib.Path({str(note)!r}).write_text('x'); time.sleep(60)"
    )
    with pytest.raises(ToolTimeoutError):
        processes.run(script(text), timeout_s=1)

    assert said.read_text() == "marked"


def test_on_windows_a_process_is_ended_without_signals(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no groups of processes to send a signal to; a time limit ends the process there as well."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "killpg")
    started: list[int] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(ToolTimeoutError):
        processes.run(script("import time; time.sleep(60)"), timeout_s=1)
    assert [ends(pid) for pid in started] == [True]


def test_end_all_ends_what_runs_in_other_threads(processes: Processes, tmp_path: Path) -> None:
    """At the end of the program nothing is left running."""
    notes = [tmp_path / str(number) for number in range(3)]
    texts = [
        f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
        for note in notes
    ]
    threads = [threading.Thread(target=processes.run, args=(script(text),), kwargs={"check": False}) for text in texts]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while not all(note.exists() and note.read_text() for note in notes) and time.monotonic() < deadline:
        time.sleep(0.02)

    processes.end_all()

    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)
    assert all(ends(int(note.read_text())) for note in notes)
    processes.end_all()


def test_a_cancel_while_a_child_is_being_started_ends_that_child(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal in the middle of starting helm leaves none behind that goes on by itself."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*words: Any, **more: Any) -> subprocess.Popen[bytes]:
        started.append(real(*words, **more))
        os.kill(os.getpid(), signal.SIGUSR1)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    error = CancelledError("Cancelled.")
    before = signal.signal(signal.SIGUSR1, lambda number, frame: processes.cancel(error))
    try:
        with pytest.raises(CancelledError):
            processes.run(script("import time; time.sleep(60)"))
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert ends(started[0].pid)


def test_an_interrupt_ends_what_runs_and_leaves_little_time(processes: Processes, tmp_path: Path) -> None:
    """After a cancel no child goes on, in whatever thread, and one that starts later cannot hold the end up."""
    mark = tmp_path / "pid"
    waits = f"import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    thread = threading.Thread(target=lambda: processes.run(script(waits), check=False))
    thread.start()
    while thread.is_alive() and not (mark.exists() and mark.read_text()):
        time.sleep(0.02)
    with pytest.raises(CancelledError):
        processes.cancel(CancelledError("Cancelled."))
    assert ends(int(mark.read_text()))
    thread.join()
    with pytest.raises(ToolTimeoutError, match=r"within [34](\.\d+)? s"):
        processes.run(script("import time; time.sleep(60)"))


READY = re.compile(r"ready at (\d+)")
RUNS_BESIDE = "import os, sys, time; print('hello'); print('ready at', os.getpid(), flush=True); "


def test_a_process_that_runs_beside_is_ready_by_its_sign_and_ends_with_the_block(processes: Processes) -> None:
    """What the sign says is handed on, the process lives as long as the block, and a failure of the block ends it too."""
    with processes.beside(script(RUNS_BESIDE + "time.sleep(60)"), READY) as found:
        assert alive(int(found[1]))
    assert ends(int(found[1]))
    with pytest.raises(KeyError), processes.beside(script(RUNS_BESIDE + "time.sleep(60)"), READY) as found:
        raise KeyError
    assert ends(int(found[1]))
    assert not processes._running


def test_a_process_that_runs_beside_never_waits_for_a_reader(processes: Processes) -> None:
    """More than a pipe holds, after its sign, on both streams."""
    text = "[print(8_000 * 'x', file=stream) for stream in (sys.stdout, sys.stderr) for _ in range(1000)]"
    with processes.beside(script(RUNS_BESIDE + text), READY) as found:
        assert ends(int(found[1]))


def test_a_process_that_ends_before_its_sign_says_why(processes: Processes) -> None:
    """The error is the one of any command that fails, with the tool's own last lines."""
    with (
        pytest.raises(ToolError, match="exit code 3") as told,
        processes.beside(
            script("import sys; print('no'); print('it is forbidden', file=sys.stderr); sys.exit(3)"), READY
        ),
    ):
        pass
    assert told.value.details == ("it is forbidden",)


def test_a_process_without_its_sign_is_ended_in_time(processes: Processes, tmp_path: Path) -> None:
    """It does not hold the command up, and nothing of it stays."""
    note = tmp_path / "pid"
    text = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    beside = processes.beside(script(text), READY, timeout_s=0.5)
    with pytest.raises(ToolTimeoutError, match=r"not ready within 0\.5 s"), beside:
        pass
    assert ends(int(note.read_text()))


def test_a_cancel_ends_what_runs_beside(processes: Processes) -> None:
    """As it ends all other children."""
    with processes.beside(script(RUNS_BESIDE + "time.sleep(60)"), READY) as found:
        processes.ask_to_end()
        assert ends(int(found[1]))


def test_a_signal_at_the_terminal_does_not_reach_the_child() -> None:
    """Ctrl-C goes to the whole foreground group: the child is in one of its own, so that it is ended in order."""
    text = f"""
import os, sys
sys.path.insert(0, {str(Path(process.__file__).parents[1])!r})
from helm_canary.process import Processes
done = Processes(environment=dict(os.environ)).run([sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"])
print(done.stdout.strip())
"""
    done = subprocess.run(script(text), capture_output=True, text=True, timeout=30)

    assert done.stdout == "True\n", done.stderr


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_only_commands_that_change_something_are_echoed() -> None:
    """As a person would type them."""
    told: list[str] = []
    processes = Processes(environment=ENVIRONMENT, echo=told.append)

    processes.run(script("pass"))
    processes.run([PYTHON, "-c", "pass", "--set", "a=b c"], shown=True)

    assert told == [f"{PYTHON} -c pass --set 'a=b c'"]


SECRETS = [
    ("pod.env.DB_PASSWORD=hunter2", "pod.env.DB_PASSWORD=***"),
    ("pod.env.A=1,pod.env.apiKey=hunter2,pod.env.B=2", "pod.env.A=1,pod.env.apiKey=***,pod.env.B=2"),
    (r"pod.env.TOKEN=hun\,ter2,pod.env.B=2", "pod.env.TOKEN=***,pod.env.B=2"),
    (r"pod.env.TOKEN=hun\\,pod.env.B=2", "pod.env.TOKEN=***,pod.env.B=2"),
    ("secrets={hunter2,hunter2},b=1", "secrets=***,b=1"),
    (r"secrets={hunter2\},hunter2},b=1", "secrets=***,b=1"),
    ("auth.value=a=b", "auth.value=***"),
    ("productionDeployment.weight=90", "productionDeployment.weight=90"),
]


@pytest.mark.parametrize(("pair", "shown"), SECRETS)
def test_values_with_a_secret_name_are_not_shown(pair: str, shown: str) -> None:
    """Passwords, tokens and keys given with --set do not go to a log, however they are escaped."""
    text = shown_command(["helm", "upgrade", "--set", pair])

    assert "hunter2" not in text
    assert "ter2" not in text
    assert shown in text


HELMS_401 = (
    "Error: UPGRADE FAILED: Kubernetes cluster unreachable: the server has asked for the client to provide credentials"
)
CAUSES = {
    'error: context "x" does not exist': "was given does not exist",
    "Error: stat /x: no such file or directory": "was given does not exist",
    "Error: unable to detect chart at /etc/Chart.yaml: open /etc/Chart.yaml: no such file": "The folder holds no Helm chart",
    'secrets is forbidden: User "v" cannot list resource "secrets"': "The account is not allowed to do this",
    'pods "x" is forbidden: exceeded quota: small': "quota",
    "error: You must be logged in to the server (Unauthorized)": "does not accept the credentials",
    HELMS_401: "does not accept the credentials",
    'the server doesn\'t have a resource type "virtualservices"': "not installed in the cluster",
    "dial tcp 10.0.0.1:443: connect: connection refused": "cannot be reached",
    "lookup x.azmk8s.io: no such host": "name is not known",
    "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress": "is at work, or was killed",
    "interface conversion: interface {} is float64, not map[string]interface {}": "as something else",
    "template: x/y.yaml:5: nil pointer evaluating interface {}.path": "the tool's own",
    "error unmarshaling path: bad": "the tool's own",
    "": "the tool's own",
}


def test_kubectls_own_words_for_a_server_that_is_away() -> None:
    """With discovery in its cache kubectl says only this, without `connection refused`: a stage once ended by it."""
    assert is_away("The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?")


def test_a_refused_token_is_not_taken_for_a_server_that_is_away() -> None:
    """Helm calls such a cluster unreachable; to wait for it would not help."""
    assert is_unauthorized(HELMS_401)
    assert not is_away(HELMS_401)
    assert is_away("Error: Kubernetes cluster unreachable: dial tcp 10.0.0.1:443: connect: connection refused")


@pytest.mark.parametrize(("stderr", "means"), CAUSES.items())
def test_known_causes_are_explained(stderr: str, means: str) -> None:
    """The sentence fits what the tool said; where it is not known, that is said."""
    error = tool_error(["kubectl", "get"], Completed(code=1, stdout="", stderr=stderr))

    assert means in error.means
    assert error.do_next
    assert isinstance(error, RefusedError)
    assert error.stderr == stderr


CONNECTIONS = [
    (Connection(), ["kubectl", "get"], ["helm", "list"]),
    (Connection(namespace="shop"), ["kubectl", "--namespace", "shop", "get"], ["helm", "list", "--namespace", "shop"]),
    (
        Connection(kubeconfig="/k", context="c", namespace="n"),
        ["kubectl", "--kubeconfig", "/k", "--context", "c", "--namespace", "n", "get"],
        ["helm", "list", "--kubeconfig", "/k", "--kube-context", "c", "--namespace", "n"],
    ),
]


@pytest.mark.parametrize(("connection", "kubectl", "helm"), CONNECTIONS)
def test_helm_and_kubectl_are_pointed_at_the_same_place(
    connection: Connection, kubectl: list[str], helm: list[str]
) -> None:
    """Kubeconfig, context and namespace for both, each in its own words."""
    assert connection.kubectl("get") == kubectl
    assert connection.helm("list") == helm


def test_another_namespace_is_asked_for_by_name() -> None:
    """A gateway's; and none at all for what is asked of all."""
    connection = Connection(namespace="shop")

    assert connection.kubectl("get", namespace="istio-system")[1:3] == ["--namespace", "istio-system"]
    assert connection.kubectl("get", "--all-namespaces", namespace="") == ["kubectl", "get", "--all-namespaces"]


def test_no_signal_is_left_changed() -> None:
    """Importing and running changes no signal handler of the program."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_api_server_that_has_just_started_is_waited_for(tmp_path: Path) -> None:
    """A kind that it had before is not missing; one that it never had is told at once."""
    kubectl, turn = tmp_path / "kubectl", tmp_path / "turn"
    said = tmp_path / "said"
    said.write_text("error: the server doesn't have a resource type")
    kubectl.write_text(
        f'#!/bin/sh\nn=$(cat {turn}); echo $((n + 1)) >{turn}\n[ "$2" = pods ] && exit 0\n'
        f"if [ $n = 2 ] || [ $2 = never ]; then cat {said} >&2; exit 1; fi\necho answer $n\n"
    )
    kubectl.chmod(0o755)
    turn.write_text("0")
    patient = Processes(environment={**ENVIRONMENT, "PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"}, patience_s=60)
    patient.run(["kubectl", "get", "pods"])
    assert patient.run(["kubectl", "get", "routes"]).stdout == "answer 1\n"
    assert patient.run(["kubectl", "get", "routes"]).stdout == "answer 3\n"
    with pytest.raises(ToolError, match="failed with exit code 1"):
        patient.run(["kubectl", "get", "never"])


# What Helm 4.3 says of a template -> where.
PLACES = [
    ("Error: execution error at (shop/templates/x.yaml:12:3): give x\n\nUse --debug flag", "shop/templates/x.yaml:12:3"),
    (('Error: shop/templates/x.yaml:1:6\n  executing "shop/templates/x.yaml" at <include "h" .>:\n    error calling include:\n'
     'shop/templates/_h.tpl:1:27\n  executing "h" at <.Values.no.such>:\n    nil pointer evaluating interface {}.such'),
     "shop/templates/_h.tpl:1:27"),
    ("Error: parse error at (shop/templates/x.yaml:1): missing value for if", "shop/templates/x.yaml:1"),
    ("Error: YAML parse error on shop/templates/x.yaml: error converting YAML to JSON: yaml: line 1", "shop/templates/x.yaml"),
    ("Error: chart not found", ""), ("Error: Kubernetes cluster unreachable: https://h:6443", ""),
]  # fmt: skip


@pytest.mark.parametrize(("stderr", "place"), PLACES)
def test_a_template_is_named_with_its_line(stderr: str, place: str) -> None:
    """Where Helm gives it; of several the innermost."""
    assert template_place(stderr) == place
    happened = tool_error(["helm", "template"], Completed(code=1, stdout="", stderr=stderr)).happened
    assert happened.endswith(f" at {place}." if place else "with exit code 1.")
