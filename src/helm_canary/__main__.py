"""The edge: arguments and environment in, wiring, output, exit code; and the one catcher.

Only this module and `ci/` read the environment or print. What a command needs is imported when it is known which one it is, so
that `--help` is cheap.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from helm_canary import __version__
from helm_canary.errors import CanaryError, CancelledError, UnexpectedError, UsageError
from helm_canary.options import (
    COMMAND_VARIABLE,
    STAGE_VARIABLE,
    TABLE,
    Command,
    Kind,
    Option,
    Options,
    gather,
    resolve,
)

if TYPE_CHECKING:
    from helm_canary.ci.masks import Masks
    from helm_canary.commands import Answer
    from helm_canary.process import Processes

SIGNALS = {signal.SIGINT, signal.SIGTERM}
SUMMARIES = {
    Command.STAGE: "bring the release to a stage; does nothing, and says so, if it is there",
    Command.ROLLBACK: "undo the release under way or the last finished one, from wherever it is",
    Command.PLAN: "show the steps to a stage (or `all`), the Helm commands and what each changes",
    Command.STATUS: "what is live: stage, tags, weights asked and in force, replicas, who, since when",
    Command.VERIFY: "send requests through the gateway: status, split, latency",
    Command.TOKEN: "print a token for a cluster of AKS as an ExecCredential, for a kubeconfig to call",
    Command.CREDENTIALS: "write a kubeconfig for a cluster of AKS that calls `helm-canary token`",
}
EPILOG = """\
Every option is also a variable HELM_CANARY_NAME (lists one a line).
Exit codes: 0 done, or nothing to do; 2 wrong usage; 3 refused, nothing changed; 4 failed, all traffic is on a healthy
version; 5 failed, and that cannot be said; 6 verification failed; 130 cancelled."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"The command line is wrong: {message}.",
            "A command or an option is misspelt, missing, or of another command.",
            f"See `{self.prog} --help`.",
        )


def make_parser() -> argparse.ArgumentParser:
    """The command line, made from the option table."""
    parser = _Parser(
        prog="helm-canary",
        description="Release a microservice with Helm and Istio in approved stages, without losing a request.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"helm-canary {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for command in Command:
        summary = SUMMARIES[command]
        sub = commands.add_parser(command.value, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=EPILOG,
                                  formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)  # fmt: skip
        if command is Command.STAGE:
            sub.add_argument("stage", metavar="N|NAME", help="number or name of the stage, such as 2 or canary-10")
        elif command is Command.PLAN:
            sub.add_argument("stage", metavar="N|NAME|all", help="number or name of the stage, or all")
        for option in TABLE:
            if command in option.commands:
                _add(sub, option)
    return parser


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    default = f" (default: {option.default})" if option.default else ""
    text = (option.help + default).replace("%", "%%")
    flag, key = f"--{option.name}", option.key
    if option.kind is Kind.FLAG:
        parser.add_argument(flag, dest=key, action="store_const", const="true", help=text)
    elif option.kind is Kind.LIST:
        parser.add_argument(flag, dest=key, action="append", metavar=option.placeholder, help=text)
    else:
        metavar = "|".join(option.choices) or option.placeholder
        parser.add_argument(flag, dest=key, metavar=metavar, help=text)


def read_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """The command line and the environment -> options. Raises UsageError.

    Without a command line the command and its stage are variables: no text of theirs is an option then.
    """
    if not arguments and environment.get(COMMAND_VARIABLE):
        command, stage = environment[COMMAND_VARIABLE], environment.get(STAGE_VARIABLE, "")
        return resolve(_command(command), stage, gather({}, environment))
    parsed = vars(make_parser().parse_args(arguments))
    given = {}
    for key, value in parsed.items():
        if value is not None and key not in ("command", "stage"):
            given[key] = "\n".join(value) if isinstance(value, list) else value
    return resolve(Command(parsed["command"]), parsed.get("stage") or "", gather(given, environment))


def _command(name: str) -> Command:
    try:
        return Command(name)
    except ValueError:
        names = ", ".join(command.value for command in Command)
        raise UsageError(f"There is no command {name[:60]!r}.", f"The commands are {names}.",
                         f"Set {COMMAND_VARIABLE} to one of them.") from None  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit code."""
    _hold_signals()
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    finally:
        _forget_signals()


def _main(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A log of another encoding gets a character that it lacks as an escape; it is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    output, masks = _wanted_output(arguments, os.environ), None
    asked = arguments or [os.environ.get(name, "") for name in (COMMAND_VARIABLE, STAGE_VARIABLE)]
    try:
        options = read_arguments(arguments, os.environ)
        output = options.output
        masks = _masks()
        return _run(options, masks)
    except CanaryError as error:
        return _end(error, output, masks, asked)
    except BrokenPipeError:
        return 5
    except Exception as error:
        import traceback

        lines = "".join(traceback.format_exception(error)).splitlines()
        return _end(UnexpectedError.of(error, tuple(lines)), output, masks, asked)


def _masks() -> Masks:
    from helm_canary.ci.masks import Masks
    from helm_canary.ci.platform import platform_of

    return Masks(platform=platform_of(os.environ))


def _wanted_output(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Whether an error of the command line itself is to be told as JSON. What calls `token` takes a token or nothing."""
    if Command.TOKEN.value in arguments[:1]:
        return "text"
    text = " ".join(arguments)
    asked = "--output json" in text or "--output=json" in text or environment.get("HELM_CANARY_OUTPUT") == "json"
    return "json" if asked else "text"


def _run(options: Options, masks: Masks) -> int:
    from helm_canary.ci.console import Console
    from helm_canary.ci.platform import Laptop
    from helm_canary.commands import Edge, carry_out
    from helm_canary.keys import folder_of, keys_in
    from helm_canary.process import Processes, is_passed_on

    console = Console(terminal_width=_terminal_width(), hide=masks.hide, conceal=masks.conceal, platform=masks.platform)
    environment = {name: value for name, value in os.environ.items() if is_passed_on(name)}
    processes = Processes(environment=environment, echo=console.command)
    _listen(processes)
    with keys_in(folder_of(os.environ)) as workspace:
        edge = Edge(processes=processes, report=console, environment=dict(os.environ), workspace=str(workspace.path),
                    mask=masks.add, suspect=masks.suspect, in_ci=not isinstance(masks.platform, Laptop))  # fmt: skip
        try:
            answer = carry_out(options, edge)
        finally:
            _ignore_signals()
            processes.end_all()
            console.end_group()
    return _show(answer, options, masks, f"{options.command.value} {options.stage or ''}".strip())


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 200


def _hold_signals() -> None:
    """Until `_listen` a signal waits: Python would answer it with a traceback."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _let_signals_in() -> None:
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _forget_signals() -> None:
    """One that still waits came for a command that never began; its error is the answer."""
    if sys.platform != "win32":
        for number in signal.sigpending() & SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    _let_signals_in()


def _ignore_signals() -> None:
    """What comes now is too late: Python would die of it while it ends, with a command that is done or says why it is not."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _listen(processes: Processes) -> None:
    """SIGINT and SIGTERM end the command in order: once, as an error like any other."""

    def cancelled(number: int, frame: object) -> None:
        _ignore_signals()
        do_next = "Run the same command again."
        processes.cancel(CancelledError(f"Cancelled by {signal.Signals(number).name}.", "", do_next))

    for number in SIGNALS:
        signal.signal(number, cancelled)
    _let_signals_in()


def _show(answer: Answer, options: Options, masks: Masks, asked: str) -> int:
    if options.command is Command.TOKEN:
        # The token is the answer, and whoever called takes it from here.
        print(answer.text)
    elif options.output == "json":
        print(masks.hide_json(answer.json))
    else:
        from helm_canary.report import harmless

        print(harmless(masks.hide(answer.text)))
    if answer.outcome is not None:
        from helm_canary.ci.publish import publish

        publish(answer.outcome, asked, masks)
    return answer.exit_code


def _end(error: CanaryError, output: str, masks: Masks | None, arguments: Sequence[str]) -> int:
    from helm_canary.ci.publish import publish
    from helm_canary.report import error_text, harmless, nothing_known, outcome_json

    masks = masks or _masks()
    # What others wrote stands in these parts; what to do next is ours alone.
    error.happened, error.means = masks.conceal(error.happened), masks.conceal(error.means)
    error.details = tuple(map(masks.conceal, error.details))
    outcome = error.outcome or nothing_known(error)
    if output == "json":
        print(masks.hide_json(outcome_json(outcome)))
    print(harmless(masks.hide(error_text(error))), file=sys.stderr)
    if arguments[:1] != [Command.TOKEN.value]:
        publish(outcome, _certain(arguments), masks)
    return error.exit_code


def _certain(arguments: Sequence[str]) -> str:
    """Of a command line that may be wrong, what is certain to be a command and a stage; anything else may be a secret."""
    if not arguments or arguments[0] not in {command.value for command in Command}:
        return ""
    stages = [word for word in arguments[1:2] if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", word)]
    return " ".join([arguments[0], *stages])


if __name__ == "__main__":
    sys.exit(main())
