"""Started by main.js: makes the private environment, turns inputs and connections into variables, becomes the program.

Needs Python 3.10 and nothing else. Beside it travel `src`, `charts`, `requirements.lock`, and maybe a `wheelhouse`.
"""

from __future__ import annotations

import signal
import sys

SIGNALS = {signal.SIGINT, signal.SIGTERM}
WINDOWS = sys.platform == "win32"
if __name__ == "__main__" and not WINDOWS:
    # Until `_listen` a signal waits: Python would answer it with a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "src")]

from task_variables import Handed, variables

from helm_canary import __version__
from helm_canary.ci.azure_pipelines import AzurePipelines
from helm_canary.ci.masks import Masks
from helm_canary.ci.publish import publish
from helm_canary.errors import CanaryError, CancelledError, RefusedError
from helm_canary.keys import locked_folder, write_secret
from helm_canary.options import COMMAND_VARIABLE, RENDERING
from helm_canary.process import PASSED_ON, send
from helm_canary.report import error_text, harmless, nothing_known

CHART = "HELM_CANARY_CHART"
FLAGS = ("-I", "-X", "utf8", "-u")
# The job's settings for its own packages, which would put ours elsewhere or hold them to other versions.
NOT_OURS = {
    "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_REQUIRE_VIRTUALENV",
    "UV_TARGET", "UV_PREFIX", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON",
}  # fmt: skip
AUTHORITIES = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
INDEX = "A mirror of the package index is named with the variables UV_DEFAULT_INDEX and PIP_INDEX_URL; "


def main() -> int:
    """The program's exit code, or the one of an error before it. On POSIX it does not come back when all is well."""
    environment = dict(os.environ)
    masks = Masks(platform=AzurePipelines(folder=environment.get("AGENT_TEMPDIRECTORY", "")), stream=sys.stdout)
    try:
        _listen()
        handed = variables(environment)
        for secret in handed.secrets:
            masks.add(secret)
        python = environment_for(temporary(environment), _for_installers(handed.environment))
        return _become(python, _completed(handed, temporary(environment)))
    except CanaryError as error:
        return _end(error, environment, masks)
    except (OSError, ValueError) as error:
        return _end(_broken(error), environment, masks)


def _end(error: CanaryError, environment: Mapping[str, str], masks: Masks) -> int:
    print(harmless(masks.hide(error_text(error))), flush=True)
    publish(nothing_known(error), _asked(environment), masks)
    return error.exit_code


def _broken(error: OSError | ValueError) -> RefusedError:
    return RefusedError(
        f"The task could not start the program: {error}.",
        "The agent's temporary folder is full or may not be written, or the task's own folder is not whole.",
        "Make room on the agent, or install the extension again.",
    )


def _for_installers(environment: Mapping[str, str]) -> dict[str, str]:
    """What uv and pip need, and no secret of the job."""
    return {
        name: value
        for name, value in environment.items()
        if (name in PASSED_ON or name in AUTHORITIES or name.startswith(("PIP_", "UV_"))) and name not in NOT_OURS
    }


def _listen() -> None:
    """A signal while packages are installed: an error like any other, and the installer ends with it."""

    def cancelled(number: int, frame: object) -> None:
        raise CancelledError(f"Cancelled by {signal.Signals(number).name}.", "Nothing was changed.", "Run it again.")

    for number in SIGNALS:
        signal.signal(number, cancelled)
    if not WINDOWS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _asked(environment: Mapping[str, str]) -> str:
    """What a person would call this run; the inputs are not checked yet."""
    words = (environment.get(f"INPUT_{name}", "") for name in ("COMMAND", "STAGE"))
    return " ".join(word for word in words if word.replace("-", "").isalnum())


def temporary(environment: Mapping[str, str]) -> Path:
    """The agent's folder, which it empties after the job."""
    return Path(environment.get("AGENT_TEMPDIRECTORY") or tempfile.gettempdir())


# --- the program's own Python --------------------------------------------------------------------------------------------


def environment_for(folder: Path, environment: Mapping[str, str]) -> Path:
    """The Python that has the locked dependencies: one a job and version, found by the job's later steps. Raises RefusedError."""
    words = (__version__, sys.version, str(HERE), (HERE / "requirements.lock").read_text(encoding="utf-8"))
    digest = hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]
    made = folder / f"helm-canary-{digest}"
    if not made.exists():
        new = folder / f"helm-canary-{digest}-{os.getpid()}"
        try:
            _install(new, environment)
            new.rename(made)
        except OSError as error:
            if not made.exists():
                raise _not_installed(f"{error.strerror} at {folder}.") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return _python_in(made)


def _python_in(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if WINDOWS else "bin/python")


def _install(new: Path, environment: Mapping[str, str]) -> None:
    """A virtual environment with the dependencies, by uv or by pip, and the program by its path."""
    wheels = wheelhouse()
    uv = shutil.which("uv")
    if not (uv and _with_uv(uv, new, wheels, environment)):
        shutil.rmtree(new, ignore_errors=True)
        _with_pip(new, wheels, environment)
    # An installer that put them elsewhere says that all went well.
    asked = [
        str(_python_in(new)),
        *("-I", "-c", "import requests, sysconfig, yaml; print(sysconfig.get_path('purelib'))"),
    ]
    found = _run(asked, environment)
    if found.returncode != 0:
        raise _not_installed("The new environment does not start, or lacks its packages.", found.stdout)
    (Path(found.stdout.strip()) / "helm_canary.pth").write_text(f"{HERE / 'src'}\n", encoding="utf-8")


def wheelhouse() -> Path | None:
    """The wheels that travel with the task, where they are for this machine and Python."""
    folder = HERE / "wheelhouse"
    if not folder.is_dir():
        return None
    made_for = json.loads((folder / "made-for.json").read_text(encoding="utf-8"))
    python = ".".join(map(str, sys.version_info[:2]))
    glibc = not sys.platform.startswith("linux") or platform.libc_ver()[0] == "glibc"
    if glibc and sysconfig.get_platform() in made_for["platforms"] and python in made_for["pythons"]:
        return folder
    print(
        f"The wheels of this task are for others than {sysconfig.get_platform()} with Python {python}: asking the index."
    )
    return None


def _with_uv(uv: str, new: Path, wheels: Path | None, environment: Mapping[str, str]) -> bool:
    made = _run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(new)], environment)
    if made.returncode != 0:
        return False
    words = [uv, "pip", "install", "--quiet", "--no-build", "--require-hashes", "--python", str(_python_in(new))]
    done = _run([*words, *_source(wheels), *_lock()], environment)
    if done.returncode != 0:
        print(harmless(done.stdout), flush=True)
    return done.returncode == 0


def _with_pip(new: Path, wheels: Path | None, environment: Mapping[str, str]) -> None:
    made = _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(new)], environment)
    pip = [sys.executable, "-I", "-m", "pip", "--python", str(_python_in(new))]
    # The pip that is there installs elsewhere as well, from version 22.3 on; to make one of its own takes seconds.
    if made.returncode == 0 and _run([*pip, "--version"], environment).returncode != 0:
        made = _run([str(_python_in(new)), "-I", "-m", "ensurepip"], environment)
        pip = [str(_python_in(new)), "-I", "-m", "pip"]
    if made.returncode != 0:
        raise _not_installed("This Python lacks the module venv or pip, and there is no uv.", made.stdout)
    words = ["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"]
    done = _run([*pip, *words, *_source(wheels), *_lock()], environment)
    if done.returncode != 0:
        raise _not_installed("The package index does not answer, or has other files than the lock.", done.stdout)


def _source(wheels: Path | None) -> list[str]:
    return ["--no-index", "--find-links", str(wheels)] if wheels is not None else []


def _lock() -> list[str]:
    return ["--requirement", str(HERE / "requirements.lock")]


def _run(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    # From here: the settings of the sources' own project are none of ours.
    with subprocess.Popen(
        words, env=dict(environment), cwd=HERE, text=True, encoding="utf-8", errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as child:  # fmt: skip
        try:
            said, _ = child.communicate()
        except BaseException:
            # With its own children: pip works in one.
            send(child, at_once=True)
            raise
    return subprocess.CompletedProcess(words, child.returncode, said)


def _not_installed(means: str, said: str = "") -> RefusedError:
    return RefusedError(
        "The dependencies could not be installed.",
        means,
        INDEX + "a task with its packages in it is packed with `--bundle`; Python comes with UsePythonVersion@0.",
        tuple(said.strip().splitlines()[-10:]),
    )


# --- the program ---------------------------------------------------------------------------------------------------------


def _completed(handed: Handed, folder: Path) -> dict[str, str]:
    """The program's environment with what is a file: the certificate, and the chart that travels in the task."""
    environment = dict(handed.environment)
    if environment.get(COMMAND_VARIABLE) in {command.value for command in RENDERING}:
        environment.setdefault(CHART, str(HERE / "charts" / "productpage"))
    if handed.certificate:
        environment["AZURE_CLIENT_CERTIFICATE_PATH"] = str(_kept(handed.certificate, folder))
    return environment


def _kept(certificate: str, folder: Path) -> Path:
    """A file of mode 0600 in a folder that the next run of the program removes; the agent empties the rest after the job."""
    place, held = locked_folder(folder)
    if held is not None:
        # For as long as the program runs, which this process becomes.
        os.set_inheritable(held, True)
    write_secret(place / "certificate.pem", certificate)
    return place / "certificate.pem"


def _become(python: Path, environment: Mapping[str, str]) -> int:
    """Inputs are variables: neither the list of processes nor a shell sees them."""
    words = [str(python), *FLAGS, "-m", "helm_canary"]
    sys.stdout.flush()
    if not WINDOWS:
        # What comes now waits for the program, which is not there yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        os.execve(python, words, dict(environment))
    with _left_to_the_program():
        return subprocess.run(words, env=dict(environment), stdin=subprocess.DEVNULL, check=False).returncode


@contextlib.contextmanager
def _left_to_the_program() -> Iterator[None]:
    """Windows cannot replace a process; its console tells the program of Ctrl+C, and this one waits for it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
