"""The packed task, run by its own entry as an agent runs it: under both Nodes, without a package index.

Windows is not run here: its rules are the branches of main.js and start.py that name it.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.azure_pipelines.agent import ACCESS_TOKEN, Agent, Ended, Endpoint
from tests.azure_pipelines.conftest import NO_INDEX, Packed, nodes
from tests.azure_pipelines.test_start import CLIENT, PEM, PRINCIPAL, azure

ID = "0f0e0d0c-0b0a-0908-0706-050403020100"
NODE = nodes()["24"]
TRACES = ("Traceback", "node:internal", "[DEP0")
# A network namespace with nothing in it but a loopback that is down.
UNSHARE = ("unshare", "--net", "--map-root-user")
WITHOUT_NETWORK = shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0


def without_network(words: Sequence[str]) -> Sequence[str]:
    return [*UNSHARE, *words]


class Stage:
    """The task with the stand-in, and what the stand-in found."""

    def __init__(self, agent: Agent, folder: Path) -> None:
        self.told = folder / "told.json"
        self.agent = agent

    def variables(self, do: str = "exit:0") -> dict[str, str]:
        return {"STAND_IN_TO": str(self.told), "STAND_IN_DO": do}

    def run(self, do: str = "exit:0", *endpoints: Endpoint, **inputs: str) -> Ended:
        return self.agent.run({"command": "status", **inputs}, endpoints, self.variables(do))

    @property
    def found(self) -> dict[str, Any]:
        return dict(json.loads(self.told.read_text(encoding="utf-8")))


@pytest.fixture
def stage(stand_in: Path, temp: Path, tools_path: str, tmp_path: Path) -> Stage:
    home = str(Path.home())
    return Stage(Agent(task=stand_in, temp=temp, node=NODE, path=tools_path, home=home, variables=NO_INDEX), tmp_path)


def test_a_plan_needs_nothing_but_the_task(agent: Agent) -> None:
    """A step with a few inputs plans a release by the chart in the task and the id of the run, and succeeds."""
    ended = agent.run({"command": "plan", "stage": "canary-10", "from": "83", "release": "productpage"})
    assert ended.result == "Succeeded", ended
    assert "canary to 2 pods at 84" in ended.log
    assert ended.unknown == []
    assert [trace for trace in TRACES if trace in ended.raw] == []


def test_a_wrong_input_fails_the_step(agent: Agent) -> None:
    """The program's own error is the run's: told as an issue, with the exit code as the result, and as outputs."""
    ended = agent.run({"command": "stage", "stage": "canary-11", "release": "productpage", "requireApproval": "false"})
    assert (ended.code, ended.result) == (2, "Failed"), ended
    assert [kind for kind, _ in ended.issues] == ["error"]
    assert "canary-11" in ended.issues[0][1]
    assert (ended.outputs["result"], ended.outputs["canaryWeight"]) == ("usage", "")
    assert ended.refused == []
    assert "There is no stage" in ended.summaries[0]


def test_a_connection_that_cannot_be_used_fails_before_the_program(agent: Agent) -> None:
    """An error of the task itself looks as one of the program does: an issue, outputs, a summary."""
    ended = agent.run({"command": "status", "azureSubscription": ID}, [azure("PublishProfile", {})])
    assert (ended.code, ended.result) == (2, "Failed"), ended
    assert "publishprofile" in ended.issues[0][1]
    assert ended.outputs["result"] == "usage"


HOSTILE = "##vso[task.complete result=Succeeded]x;y=]%AZP25%0A$(Build.BuildId) `id` \"'\\\n##[error]é\u2028 end"


def test_inputs_arrive_as_they_are(stage: Stage) -> None:
    """A hostile input reaches the program byte for byte, in its environment alone, and the log shows nothing of it."""
    ended = stage.run(comment=HOSTILE, values=HOSTILE, registryPassword="pass\nword")
    assert ended.code == 0, ended
    found = stage.found["environment"]
    assert (found["HELM_CANARY_COMMENT"], found["HELM_CANARY_VALUES"]) == (HOSTILE, HOSTILE)
    assert found["HELM_CANARY_REGISTRY_PASSWORD"] == "pass\nword"
    assert [word for word in stage.found["argv"] if "vso" in word or "word" in word] == []
    assert stage.found["argv"][-2:] == ["-m", "helm_canary"]
    assert stage.found["stdin"] == ""
    assert ended.raw == ""


def test_nothing_of_the_agents_own_reaches_the_program(stage: Stage) -> None:
    """The program's environment has no input, connection or secret under the agent's names, and no token it has no use for."""
    secret = azure("ServicePrincipal", PRINCIPAL | {"serviceprincipalkey": "the secret\nof two lines"})
    assert stage.run("exit:0", secret, azureSubscription=ID).code == 0
    found = stage.found["environment"]
    assert [name for name in found if name.startswith(("INPUT_", "ENDPOINT_", "SECRET_"))] == []
    assert ACCESS_TOKEN not in found.values()
    assert found["AZURE_CLIENT_SECRET"] == "the secret\nof two lines"
    assert found["HELM_CANARY_CLIENT_ID"] == CLIENT


def test_secrets_of_a_connection_are_masked_first(stage: Stage) -> None:
    """Each line of a connection's secret is masked before anything else is said; the log never has it."""
    secret = azure("ServicePrincipal", PRINCIPAL | {"serviceprincipalkey": "the secret\nof two lines"})
    ended = stage.run("exit:4", secret, azureSubscription=ID)
    assert ended.secrets[:2] == ["the secret", "of two lines"]
    assert ended.raw.startswith("##vso[task.setsecret]")
    assert not any(secret in ended.log for secret in ended.secrets)


def test_a_federated_connection_brings_the_access_token(stage: Stage) -> None:
    """Without any mapping by the user, the token and the connection's id are there for the program, and masked."""
    ended = stage.run("exit:0", azure("WorkloadIdentityFederation", PRINCIPAL), azureServiceConnection=ID)
    found = stage.found["environment"]
    assert (found["SYSTEM_ACCESSTOKEN"], found["AZURESUBSCRIPTION_SERVICE_CONNECTION_ID"]) == (ACCESS_TOKEN, ID)
    assert found["SYSTEM_OIDCREQUESTURI"].startswith("https://")
    assert ACCESS_TOKEN in ended.secrets


def test_a_certificate_is_a_file_for_nobody_else(stage: Stage, temp: Path) -> None:
    """The certificate is a file of mode 0600 in a folder of mode 0700, which the next run removes."""
    parameters = PRINCIPAL | {"authenticationType": "spnCertificate", "servicePrincipalCertificate": PEM}
    assert stage.run("exit:0", azure("ServicePrincipal", parameters), azureSubscription=ID).code == 0
    assert (stage.found["modes"], stage.found["certificate"]) == (["0o600", "0o700"], PEM)
    from helm_canary.keys import sweep

    sweep(temp)
    assert list(temp.glob("helm-canary-keys-*")) == []


def test_the_certificate_stays_while_the_program_runs(stage: Stage, temp: Path) -> None:
    """Another run that cleans up leaves the folder of one that is alive."""
    from helm_canary.keys import sweep

    parameters = PRINCIPAL | {"authenticationType": "spnCertificate", "servicePrincipalCertificate": PEM}
    connections = [azure("ServicePrincipal", parameters)]
    running = stage.agent.start(
        {"command": "status", "azureSubscription": ID}, connections, stage.variables("wait"), None
    )
    _until(stage.told.exists)
    sweep(temp)
    assert len(list(temp.glob("helm-canary-keys-*/certificate.pem"))) == 1
    running.cancel()
    running.wait()


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6])
def test_the_exit_code_is_passed_on(stage: Stage, code: int) -> None:
    """The step ends with the program's exit code; any but 0 fails it, with the code in the text."""
    ended = stage.run(f"exit:{code}")
    assert (ended.code, ended.result) == (code, "Failed" if code else "Succeeded")
    assert not code or str(code) in ended.of("task.complete")[0].data


def test_a_program_that_was_killed_fails_the_step(stage: Stage) -> None:
    """A program that something killed is no success and no cancellation."""
    ended = stage.run("die")
    assert (ended.code, ended.result) == (5, "Failed")
    assert "SIGKILL" in ended.raw


def test_the_order_of_the_log_is_the_programs(stage: Stage, node: str) -> None:
    """What goes to standard output and to standard error stands in the log in the order in which it was said."""
    stage.agent = replace(stage.agent, node=node)
    ended = stage.run("talk")
    assert ended.raw.splitlines() == [f"line {number}" for number in range(200)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_step_lets_the_program_end(stage: Stage, node: str, number: signal.Signals) -> None:
    """The agent's signal to Node reaches the program, which ends in its own order; the step is cancelled."""
    stage.agent = replace(stage.agent, node=node)
    running = stage.agent.start({"command": "status"}, (), stage.variables("wait"))
    _until(stage.told.exists)
    time.sleep(0.2)
    running.cancel(number)
    ended = running.wait(20)
    assert f"told {number.name}" in ended.raw
    assert (ended.code, ended.result) == (130, "Canceled")


def test_the_second_step_of_a_job_installs_nothing(stage: Stage, temp: Path) -> None:
    """One environment a job and version."""
    stage.run()
    before = {path: path.stat().st_ctime_ns for path in temp.glob("helm-canary-*")}
    stage.run()
    assert {path: path.stat().st_ctime_ns for path in temp.glob("helm-canary-*")} == before


def _python(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return folder


OLD = 'case "$*" in *version_info*) echo 3.9;; *) exit 9;; esac'
NO_PYTHON = {
    "none": (),
    "only-3.9": (("python3", OLD), ("python", OLD)),
    "python-2": (("python", "echo 2.7"),),
    "broken": (("python3", "exit 9009"),),
}


@pytest.mark.parametrize("names", NO_PYTHON.values(), ids=NO_PYTHON)
def test_without_a_python_the_step_says_what_to_add(
    names: tuple[tuple[str, str], ...], packed: Packed, tmp_path: Path, node: str
) -> None:
    """Where no Python is new enough, the step fails with what happened, what it means and what to do, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in names:
        _python(folder, name, body)
    ended = Agent(task=packed.task, temp=tmp_path / "temp", node=node, path=str(folder)).run({"command": "status"})
    assert (ended.code, ended.result) == (3, "Failed")
    (kind, text), *others = ended.issues
    assert (kind, others, len(text.splitlines())) == ("error", [], 3)
    assert "UsePythonVersion@0" in text
    assert ("3.9" in text) == (names != () and names[0][1] == OLD)
    assert [trace for trace in TRACES if trace in ended.raw] == []


def test_an_old_python_does_not_hide_a_newer_one(stage: Stage, tmp_path: Path) -> None:
    """A python3 of 3.9 is passed over for a python that is new enough."""
    folder = _python(tmp_path / "bin", "python3", OLD)
    (folder / "python").symlink_to(Path(sys.executable).resolve())
    stage.agent = replace(stage.agent, path=f"{folder}:/usr/bin:/bin")
    assert stage.run().code == 0


@pytest.mark.skipif(not WITHOUT_NETWORK, reason="a network of its own needs Linux, unshare, and the right to make one")
@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "pip"])
def test_the_wheels_in_the_task_need_no_network(stage: Stage, tmp_path: Path, with_uv: bool) -> None:
    """On a machine without any network and with empty caches the dependencies come from the task, by uv and by pip."""
    path = stage.agent.path
    if with_uv:
        from uv import find_uv_bin

        (tmp_path / "uv").symlink_to(find_uv_bin())
        path = f"{tmp_path}:{path}"
    home = tmp_path / "home"
    home.mkdir()
    stage.agent = replace(
        stage.agent, temp=tmp_path / "a temp", path=path, home=str(home), variables={}, wrap=without_network
    )
    ended = stage.run()
    assert ended.code == 0, ended
    assert len(list((tmp_path / "a temp").glob("helm-canary-*/lib/python*/site-packages/azure/identity"))) == 1
    assert with_uv == (tmp_path / "home/.cache/uv").exists(), "the other installer was used"


def test_wheels_for_another_python_are_not_used(stage: Stage, stand_in: Path, tmp_path: Path) -> None:
    """A task whose wheels do not fit asks the index; where that does not answer, the error says so in three parts."""
    task = tmp_path / "task"
    shutil.copytree(stand_in, task)
    (task / "wheelhouse" / "made-for.json").write_text('{"platforms": ["moon"], "pythons": ["3.10"]}')
    stage.agent = replace(stage.agent, task=task, temp=tmp_path / "temp")
    ended = stage.run()
    assert (ended.code, ended.result) == (3, "Failed"), ended
    assert "are for others than" in ended.raw
    assert "could not be installed" in ended.issues[0][1]
    assert "PIP_INDEX_URL" in ended.issues[0][1]
    assert [path for path in (tmp_path / "temp").iterdir() if path.is_dir()] == []


def test_a_step_can_be_cancelled_while_it_installs(stage: Stage, stand_in: Path, tmp_path: Path) -> None:
    """A package index that never answers does not hold a cancelled step, and no half environment stays."""
    task = tmp_path / "task"
    shutil.copytree(stand_in, task, ignore=shutil.ignore_patterns("wheelhouse"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        stage.agent = replace(stage.agent, task=task, temp=tmp_path / "temp", variables={"PIP_INDEX_URL": index})
        running = stage.agent.start({"command": "status"}, (), stage.variables())
        silent.settimeout(60)
        asked, _ = silent.accept()
        with asked:
            running.cancel()
            ended = running.wait(20)
            # pip asks in a child of its own, which goes as well.
            asked.settimeout(20)
            while asked.recv(4096):
                pass
    assert (ended.code, ended.result) == (130, "Canceled"), ended
    assert [path for path in (tmp_path / "temp").iterdir() if path.is_dir()] == []


MOMENTS_S = [0.07 * step for step in range(1, 9)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_step_can_be_cancelled_at_any_moment(
    packed: Packed, temp: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Whenever the signal comes, before Python, the start or the program listens or after, the step is cancelled."""
    bin_folder = _python(tmp_path / "bin", "helm", "exec sleep 20")
    _python(bin_folder, "kubectl", "exec sleep 20")
    (bin_folder / "python3").symlink_to(Path(sys.executable).resolve())
    path = f"{bin_folder}:/usr/bin:/bin"
    agent = Agent(task=packed.task, temp=temp, node=NODE, path=path, home=str(Path.home()), variables=NO_INDEX)
    # Installs what the others find.
    agent.run({"command": "plan", "stage": "canary-10", "from": "83", "release": "shop"})
    for moment_s in MOMENTS_S:
        running = agent.start({"command": "status", "release": "shop"})
        time.sleep(moment_s)
        running.cancel(number)
        ended = running.wait(30)
        # Node dies of one that comes before its own first line.
        assert (ended.code, ended.result) in ((130, "Canceled"), (-number, "Failed")), (moment_s, str(ended))
        # Python tells of one in its own first moments; no line of ours is in that.
        assert str(packed.task) not in ended.raw.partition("Traceback")[2], (moment_s, str(ended))


def test_nothing_that_a_step_leaves_can_be_read_by_others(stage: Stage, temp: Path) -> None:
    """What has a secret in it has no rights for others, whatever the agent's umask."""
    secret = azure("ServicePrincipal", PRINCIPAL | {"serviceprincipalkey": "never-on-disk-1234"})
    assert stage.run("exit:0", secret, azureSubscription=ID).code == 0
    texts = [path for path in temp.rglob("*") if path.is_file() and path.stat().st_size < 1_000_000]
    assert [path for path in texts if b"never-on-disk-1234" in path.read_bytes()] == []
    keys = [stat.S_IMODE(path.stat().st_mode) for path in temp.glob("helm-canary-keys-*")]
    assert [oct(mode) for mode in keys if mode != 0o700] == []


def _until(done: Any, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
