"""What is made from the tables of the program: docs/reference.md, action.yml, the reusable workflows, and the
task for Azure Pipelines.

`--check` writes nothing and fails where a file differs.

python -m tools.generate [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from helm_canary.__main__ import SUMMARIES
from helm_canary.azure_faults import FAULTS
from helm_canary.core.model import Result, Role, Stage
from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from helm_canary.errors import CanaryError
from helm_canary.identities import AUTHS, LOOKED_FOR
from helm_canary.options import TABLE, Command, Kind, Option
from helm_canary.outcome import Outcome
from helm_canary.report import outputs
from tools.action import action
from tools.task import NAME as TASK_NAME
from tools.task import extension, task
from tools.workflows import release_workflow, rollback_workflow, stage_workflow

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = Path("docs/reference.md")
ACTION = Path("action.yml")
WORKFLOWS = Path(".github/workflows")
EXTENSION = Path("azure-pipelines-task")

EXIT_CODES = {
    0: "done, or there was nothing to do",
    2: "wrong usage; nothing was read or touched",
    3: "refused: there is no safe plan, or the cluster could not be read; nothing was changed",
    4: "failed, and all traffic is on a version whose pods are Ready",
    5: "failed, and that cannot be said",
    6: "verification failed; nothing was moved",
    130: "cancelled by SIGINT or SIGTERM; the message says where the traffic is",
}
RESULTS = {
    Result.DONE: "the plan was carried out",
    Result.NOTHING: "the release is there already, or `--dry-run`",
    Result.ALREADY_PAST: "the release is beyond that stage, or was finished before",
    Result.FIRST_INSTALL: "there was no version before this one, so there is nothing to walk through",
    Result.REFUSED: "exit code 3",
    Result.USAGE: "exit code 2",
    Result.FAILED: "exit code 4 or 5",
    Result.VERIFICATION_FAILED: "exit code 6",
    Result.CANCELLED: "exit code 130",
}
OUTPUTS = {
    "result": "one of the results above",
    "changed": "`true` when anything was written",
    "stage": "name of the stage that is reached",
    "stage-number": "its number",
    "release-id": "tag and digest of the new version's pod template, such as `84-1f3a9c`",
    "tag": "tag of the new version",
    "previous-tag": "tag of the version before it",
    "production-tag": "tag that production's pods run with",
    "production-weight": "production's share of the traffic in percent, as asked",
    "canary-tag": "tag that the canary's pods run with",
    "canary-weight": "the canary's share of the traffic in percent, as asked",
    "revision": "number of the newest Helm revision",
    "traffic": "`production`, `canary`, `split` or `unknown`",
    "proof": "`proven`: every proxy has these weights; `gateways`: every gateway has them, the sidecars of callers were not "
    "seen; `unproven`",
    "in-flight-cut": "requests that were still in flight when the drain time was over and their pods went",
    "version-id": "tag and digest of the version that the stage was asked for, whatever release is under way: for `--of`",
    "headline": "where the traffic is, in a few words, such as `10 % on 84, 0 of 812 failed`; the numbers are the gateways' own",
    "next-changes": "`false` when the stage after this one would change nothing, so that nobody need approve it",
}


class GenerateError(Exception):
    """A table of the program and the words for it here do not fit each other."""


def reference() -> str:
    """The whole reference page."""
    parts = [
        "<!-- Made by `make generate` from src/helm_canary/options.py and its neighbours: change those. -->\n# Reference",
        "## Commands\n\n" + _table(("command", ""), _commands()),
        "Standard output has the answer, standard error what happens meanwhile. With `--output json` the answer is one object.",
        "## Stages\n\n" + _stages(),
        "## Options\n\n" + _options_text() + "\n\n" + _table(("option", "default", "", "for"), _options()),
        "## Identities\n\nWhat `--auth` can be, in the order in which `auto` looks for them.\n\n"
        + _table(("identity", "variables", ""), _identities()),
        "## Exit codes\n\n" + _table(("code", ""), ((str(code), text) for code, text in _exit_codes().items())),
        "## Results\n\n" + _table(("result", ""), ((f"`{result.value}`", text) for result, text in _results().items())),
        "## Outputs\n\n"
        "The fields of `--output json` of `stage` and `rollback`, besides `because`, `notes`, `steps` "
        "and, after a failure, `error`.\n\n"
        + _table(("output", ""), ((f"`{name}`", _output(name)) for name in _names())),
        "## Errors of Azure\n\nThe field `code` of an `error`; exit code 3.\n\n"
        + _table(("code", "", "what to do"), _faults()),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _commands() -> Iterable[tuple[str, str]]:
    positional = {Command.STAGE: " N|NAME", Command.PLAN: " N|NAME|all"}
    for command in Command:
        yield f"`helm-canary {command.value}{positional.get(command, '')}`", SUMMARIES[command]


def _identities() -> Iterable[tuple[str, ...]]:
    looked_for = {auth.name for auth in LOOKED_FOR}
    for auth in AUTHS:
        needs = ", ".join(f"`{name}`" for name in auth.needs)
        aside = "" if auth.name in looked_for else " Never by `auto`."
        ids = "`--tenant-id`, `--client-id`" if auth.needs_ids else ""
        yield f"`{auth.name}`", ", ".join(part for part in (needs, ids) if part), auth.hint + aside


class _Named(dict[str, str]):
    """The name of a fact, where a fact would stand."""

    def __missing__(self, key: str) -> str:
        return f"*{key}*"


def _faults() -> Iterable[tuple[str, ...]]:
    for code, (happened, _, do_next) in FAULTS.items():
        yield f"`{code}`", happened.format_map(_Named()), do_next.format_map(_Named())


def _stages() -> str:
    rows = [_stage_row(stage) for stage in stages_for(DEFAULT_WEIGHTS)]
    rows.append(("", "`rollback`", "P", "100 %", "-", "0 %"))
    weights = ",".join(map(str, DEFAULT_WEIGHTS))
    return (
        _table(("", "stage", "production runs", "and has", "canary runs", "and has"), rows)
        + f"\n\nP is the previous version, N the new one. The canary stages follow from `--weights` (here {weights}): any list "
        "that rises and ends in 100. At `steady`, `finish` and after `rollback` the canary has no pods."
    )


def _stage_row(stage: Stage) -> tuple[str, ...]:
    production, canary = ("N" if new else "P" for new in (stage.production_is_new, stage.canary_is_new))
    alone = stage.role in (Role.STEADY, Role.FINISH)
    split = stage.split
    runs = "-" if alone else canary
    return str(stage.number), f"`{stage.name}`", production, f"{split.production} %", runs, f"{split.canary} %"


def _options_text() -> str:
    return (
        "Every option can be given as a variable as well: `--canary-replicas` is `HELM_CANARY_CANARY_REPLICAS`. The command line "
        "comes first, then the variable, then the CI platform's own, then the default. A list has one entry a line there; a "
        "switch is `true` or `false`. A time is written `90s`, `10m` or `1h30m`."
    )


def _options() -> Iterable[tuple[str, ...]]:
    for option in TABLE:
        default = f"`{option.default}`" if option.default else " or ".join(f"`{name}`" for name in option.fallbacks)
        missing = [command for command in Command if command not in option.commands]
        used = "all" if not missing else ", ".join(f"`{command.value}`" for command in option.commands)
        yield f"`{_written(option)}`", default, option.help, used


def _written(option: Option) -> str:
    value = "|".join(option.choices) or option.placeholder
    return f"--{option.name} {value}".strip() if option.kind is not Kind.FLAG else f"--{option.name}"


def _exit_codes() -> dict[int, str]:
    _check_same("exit codes", {0, *(error.exit_code for error in _errors(CanaryError))}, set(EXIT_CODES))
    return EXIT_CODES


def _errors(root: type[CanaryError]) -> Iterable[type[CanaryError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _errors(kind)


def _results() -> dict[Result, str]:
    _check_same("results", set(Result), set(RESULTS))
    return RESULTS


def _names() -> list[str]:
    nothing = Outcome(
        result=Result.NOTHING, changed=False, plan=None, observed=None, traffic="unknown", proof="unproven"
    )
    names = list(outputs(nothing))
    _check_same("outputs", set(names), set(OUTPUTS))
    return names


def _output(name: str) -> str:
    return OUTPUTS[name]


def _check_same(what: str, program: Set[Any], here: Set[Any]) -> None:
    if program != here:
        raise GenerateError(f"The {what} of the program and of {__file__} differ: {program} and {here}.")


def files() -> dict[Path, str]:
    """Every generated file, by its path in the project."""
    named = {name: _output(name).replace("`", "") for name in _names()}
    return {
        REFERENCE: reference(),
        ACTION: action(named),
        WORKFLOWS / "stage.yml": stage_workflow(named),
        WORKFLOWS / "release.yml": release_workflow(named),
        WORKFLOWS / "rollback.yml": rollback_workflow(named),
        EXTENSION / TASK_NAME / "task.json": task(named),
        EXTENSION / "vss-extension.json": extension(),
    }


def stale() -> list[Path]:
    """The files that are not as they would be made now."""
    return [
        path
        for path, text in files().items()
        if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    checking = parser.parse_args(arguments).check
    different = stale()
    for path in different:
        if not checking:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(files()[path], encoding="utf-8")
        print(f"{path}: {'differs; run `make generate`' if checking else 'written'}")
    return 1 if checking and different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
