"""The one table of options, and `resolve`: a mapping of texts -> frozen `Options`, or a `UsageError`.

The command line, the environment variables, the pages of the reference, and later the inputs of the action and of the task
are all made from `TABLE`; a test fails where they drift. Every value arrives as text (lists one a line), whatever carried it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from helm_canary.clouds import AKS_SERVER_ID, CLOUDS, Cloud, parse_cloud
from helm_canary.core.stages import DEFAULT_WEIGHTS, find_stage, stages_for, weights_problem
from helm_canary.errors import UsageError
from helm_canary.identities import AUTHS

PREFIX = "HELM_CANARY_"


class Command(str, Enum):
    """The commands, in the order in which the help lists them."""

    STAGE = "stage"
    ROLLBACK = "rollback"
    PLAN = "plan"
    STATUS = "status"
    VERIFY = "verify"
    TOKEN = "token"
    CREDENTIALS = "credentials"


class Kind(str, Enum):
    """How a value is written."""

    TEXT = "text"
    LIST = "list"
    WEIGHTS = "weights"
    NUMBER = "number"
    DURATION = "duration"
    FLAG = "flag"
    CHOICE = "choice"


# What works on a release; the other commands are about credentials alone.
RELEASE = (Command.STAGE, Command.ROLLBACK, Command.PLAN, Command.STATUS, Command.VERIFY)
ALL = tuple(Command)
MOVING = (Command.STAGE, Command.ROLLBACK, Command.PLAN)
RENDERING = (Command.STAGE, Command.PLAN)
FETCHING = (*RELEASE, Command.CREDENTIALS)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option: `--name`, `HELM_CANARY_NAME`. `fallbacks` are variables of the CI platforms, read where neither was given."""

    name: str
    help: str
    kind: Kind = Kind.TEXT
    default: str = ""
    placeholder: str = ""
    choices: tuple[str, ...] = ()
    commands: tuple[Command, ...] = RELEASE
    fallbacks: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")


TABLE: tuple[Option, ...] = (
    Option(
        name="tag",
        help="Image tag of the new version; never used by `rollback`.",
        commands=RENDERING,
        fallbacks=("BUILD_BUILDID", "GITHUB_RUN_ID"),
        placeholder="TAG",
    ),
    Option(name="release", help="Name of the Helm release.", placeholder="NAME"),
    Option(name="namespace", help="Namespace of the release; default: the context's.", placeholder="NAME"),
    Option(name="chart", help="Chart: a folder, an archive, `oci://...` or `repo/name`.", placeholder="CHART"),
    Option(name="chart-version", help="Version of a chart that is not a folder.", placeholder="VERSION"),
    Option(name="values", kind=Kind.LIST, help="Values file or URL; repeatable, or with commas.", placeholder="FILE"),
    Option(
        name="set",
        kind=Kind.LIST,
        help="One value, as `helm --set` takes it; repeatable. The machine's users see it: secrets go into a values file.",
        placeholder="KEY=VALUE",
    ),
    Option(
        name="weights",
        kind=Kind.WEIGHTS,
        default=",".join(map(str, DEFAULT_WEIGHTS)),
        help="Canary weights in percent, rising, the last 100; one stage each.",
        commands=RENDERING,
        placeholder="LIST",
    ),
    Option(
        name="canary-replicas",
        kind=Kind.NUMBER,
        help="Canary pods to start with; default: as many as production has. Never fewer than its weight needs.",
        commands=RENDERING,
        placeholder="N",
    ),
    Option(
        name="allow",
        kind=Kind.LIST,
        help="A shared object that this release may change, `KIND/NAME`; repeatable.",
        commands=RENDERING,
        placeholder="KIND/NAME",
    ),
    Option(name="again", kind=Kind.FLAG, help="Release a version anew that was finished before.", commands=RENDERING),
    Option(
        name="of",
        help="Roll back only this release (its id or tag); any other: change nothing.",
        commands=(Command.ROLLBACK,),
        placeholder="ID|TAG",
    ),
    Option(
        name="from",
        help="Plan without a cluster, as if steady at this tag.",
        commands=(Command.PLAN,),
        placeholder="TAG",
    ),
    Option(
        name="url",
        help="Where requests are sent; default: the gateway's load balancer.",
        placeholder="URL",
    ),
    Option(
        name="path",
        help="Path of the requests. Without it a stage asks for the readiness probe's path, or `/`; `none`: it sends no request.",
        placeholder="PATH",
    ),
    Option(
        name="requests",
        kind=Kind.NUMBER,
        default="100",
        help="How many requests `verify` sends.",
        placeholder="N",
    ),
    Option(name="approved-by", help="Who approved, for the record.", commands=MOVING, placeholder="NAME"),
    Option(name="comment", help="Comment of the approval, for the record.", commands=MOVING, placeholder="TEXT"),
    Option(
        name="require-approval",
        help="In a CI: change nothing unless this gate (its environment) was approved in this run; `false`: no gate.",
        commands=(Command.STAGE,),
        placeholder="GATE",
    ),
    Option(
        name="require-rejection",
        help="In a CI: change nothing unless this gate was rejected in this run.",
        commands=(Command.ROLLBACK,),
        placeholder="GATE",
    ),
    Option(
        name="gate-attempt",
        kind=Kind.NUMBER,
        help="The attempt of the run in which the gate was passed; an approval of an earlier attempt does not count.",
        commands=(Command.STAGE,),
        placeholder="N",
    ),
    Option(
        name="stages",
        kind=Kind.NUMBER,
        help="How many stages the pipeline has; refuse where --weights makes another number of them.",
        commands=(Command.STAGE,),
        placeholder="N",
    ),
    Option(
        name="started-by",
        kind=Kind.LIST,
        help="In a CI: refuse unless one of these accounts started the run; repeatable.",
        commands=(Command.STAGE, Command.ROLLBACK),
        placeholder="ACCOUNT",
    ),
    Option(name="kubeconfig", help="Kubeconfig file; default: kubectl's own.", placeholder="FILE"),
    Option(name="context", help="Context of the kubeconfig; default: its current one.", placeholder="NAME"),
    Option(
        name="cluster-name",
        help="Cluster of AKS to fetch credentials for, in place of a kubeconfig.",
        commands=FETCHING,
        placeholder="NAME",
    ),
    Option(name="resource-group", help="Its resource group.", commands=FETCHING, placeholder="NAME"),
    Option(
        name="subscription",
        help="Id of its subscription.",
        commands=FETCHING,
        fallbacks=("AZURE_SUBSCRIPTION_ID",),
        placeholder="ID",
    ),
    Option(
        name="auth",
        kind=Kind.CHOICE,
        choices=("auto", *(auth.name for auth in AUTHS)),
        default="auto",
        help="How to prove to Azure who this is; auto: the first whose variables exist, which is printed.",
        commands=ALL,
    ),
    Option(
        name="client-id",
        help="Id of the application or managed identity.",
        commands=ALL,
        fallbacks=("AZURE_CLIENT_ID", "AZURESUBSCRIPTION_CLIENT_ID"),
        placeholder="ID",
    ),
    Option(
        name="tenant-id",
        help="Id of its tenant.",
        commands=ALL,
        fallbacks=("AZURE_TENANT_ID", "AZURESUBSCRIPTION_TENANT_ID"),
        placeholder="ID",
    ),
    Option(
        name="cloud",
        default="public",
        help="`public`, `china`, `usgovernment`, or endpoints of your own: `authority=URL,management=URL,...`.",
        commands=ALL,
        placeholder="NAME",
    ),
    Option(
        name="admin",
        kind=Kind.FLAG,
        help="Use the cluster's admin certificate instead of the identity's own rights.",
        commands=FETCHING,
    ),
    Option(
        name="public-fqdn",
        kind=Kind.FLAG,
        help="Use the public name of a private cluster.",
        commands=FETCHING,
    ),
    Option(
        name="write",
        help="File to write a kubeconfig to that asks `helm-canary token` for its token.",
        commands=(Command.CREDENTIALS,),
        placeholder="PATH",
    ),
    Option(
        name="server-id",
        default=AKS_SERVER_ID,
        help="Application that the token is for; default: the one of every AKS cluster.",
        commands=(Command.TOKEN,),
        placeholder="ID",
    ),
    Option(
        name="timeout",
        kind=Kind.DURATION,
        default="10m",
        help="How long one wait may take: until pods are Ready, until weights are in force; for Azure's answers 2m at most.",
        commands=ALL,
        placeholder="TIME",
    ),
    Option(
        name="drain",
        kind=Kind.DURATION,
        default="30s",
        help="How long requests in flight get to end before their pods go, and how long production is watched at return.",
        placeholder="TIME",
    ),
    Option(
        name="proof",
        kind=Kind.CHOICE,
        choices=("auto", "proxies", "requests", "wait"),
        default="auto",
        help="How a weight is proven: asked of the gateway proxies, counted in requests, or waited for; auto: the best there is.",
    ),
    Option(name="dry-run", kind=Kind.FLAG, help="Show the plan and change nothing.", commands=MOVING),
    Option(
        name="output",
        kind=Kind.CHOICE,
        choices=("text", "json"),
        default="text",
        help="Form of the answer on standard output.",
        commands=FETCHING,
    ),
)
BY_KEY = {option.key: option for option in TABLE}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked, checked. Times in seconds; `stage` is a number of `weights`' release, 0 for `all` or none."""

    command: Command
    stage: int = 0
    tag: str = ""
    release: str = ""
    namespace: str = ""
    chart: str = ""
    chart_version: str = ""
    values: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    weights: tuple[int, ...] = DEFAULT_WEIGHTS
    canary_replicas: int | None = None
    allow: tuple[str, ...] = ()
    again: bool = False
    of: str = ""
    from_tag: str = ""
    url: str = ""
    path: str = ""
    requests: int = 100
    approved_by: str = ""
    comment: str = ""
    require_approval: str = ""
    require_rejection: str = ""
    gate_attempt: int | None = None
    stages: int | None = None
    started_by: tuple[str, ...] = ()
    kubeconfig: str = ""
    context: str = ""
    cluster_name: str = ""
    resource_group: str = ""
    subscription: str = ""
    auth: str = "auto"
    client_id: str = ""
    tenant_id: str = ""
    cloud: Cloud = CLOUDS[0]
    admin: bool = False
    public_fqdn: bool = False
    write: str = ""
    server_id: str = AKS_SERVER_ID
    timeout_s: float = 600.0
    drain_s: float = 30.0
    proof: str = "auto"
    dry_run: bool = False
    output: str = "text"


def gather(given: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Option key -> text: the command line first, then the option's variable, then the platform's, then the default.

    Raises UsageError for a variable with our prefix that names no option, so that a misspelling is not lost.
    """
    known = {option.variable for option in TABLE}
    for name in environment:
        if name.startswith(PREFIX) and name not in known and name not in OTHER_VARIABLES:
            near = _nearest(name, sorted(known))
            hint = (
                f"Set {near}, if that was meant, or unset it."
                if near
                else "Unset it. `helm-canary stage --help` lists the options."
            )
            raise UsageError(
                f"There is no option for the variable {name}.", "It is misspelt, or of another version.", hint
            )
    texts = {}
    for option in TABLE:
        if given.get(option.key) == "" and option.key not in MAY_BE_EMPTY:
            raise _empty(option)
        sources = [given.get(option.key), environment.get(option.variable)]
        sources += [environment.get(name) for name in option.fallbacks]
        if option.name == "tag" and not any(sources[:1]) and environment.get(option.variable) == "":
            # Set, and empty: a variable of the pipeline has no value. The run's id would be another version.
            sources = []
        texts[option.key] = next((text for text in sources if text), option.default)
    return texts


def _empty(option: Option) -> UsageError:
    """An empty word on the command line is a variable without a value; going on without it could do more than was meant."""
    return UsageError(
        f"--{option.name} was given without a value.",
        "A variable of the pipeline is empty, not defined there, or misspelt.",
        f"Give --{option.name} a value, or leave it out.",
    )


# Secrets, which are no options: an option can be seen in the list of processes.
REGISTRY_VARIABLES = ("HELM_CANARY_REGISTRY_USER", "HELM_CANARY_REGISTRY_PASSWORD")
KUBECONFIG_VARIABLE = "HELM_CANARY_KUBECONFIG_DATA"
# The command and its stage, for a CI that starts the program without arguments: a text of theirs is never read as an option.
COMMAND_VARIABLE, STAGE_VARIABLE = "HELM_CANARY_COMMAND", "HELM_CANARY_STAGE"
OTHER_VARIABLES = (
    "HELM_CANARY_CLUSTER_HOME",
    *REGISTRY_VARIABLES,
    KUBECONFIG_VARIABLE,
    COMMAND_VARIABLE,
    STAGE_VARIABLE,
)
MAY_BE_EMPTY = ("approved_by", "comment")


def resolve(command: Command, positional: str, texts: Mapping[str, str]) -> Options:
    """Texts -> `Options`. Raises UsageError for the first thing that is wrong; nothing has been read or touched by then."""
    parsed: dict[str, Any] = {}
    for option in TABLE:
        # What another command's variable says is not this one's: a build id, above all, names no tag to `rollback`.
        text = texts.get(option.key, option.default) if command in option.commands else option.default
        parsed[_FIELD.get(option.key, option.key)] = _parse(option, text)
    if parsed["require_approval"].lower() == "false":
        parsed["require_approval"] = ""
    options = Options(command=command, **parsed)
    check_azure(options)
    if command not in RELEASE:
        return options
    _check_names(options)
    _check_stages(options)
    stage = _stage_number(command, positional, options.weights)
    if command in RENDERING:
        check_tag(options.tag)
        if not options.chart:
            raise UsageError("No chart was given.", "The stage renders the chart.", "Give --chart FOLDER.")
    if options.from_tag:
        check_tag(options.from_tag)
    _check_paths(options)
    for line in options.set:
        _check_set(line)
    return Options(command=command, stage=stage, **parsed)


_FIELD = {"from": "from_tag", "timeout": "timeout_s", "drain": "drain_s"}


def _parse(option: Option, text: str) -> Any:
    if option.key == "cloud":
        return _cloud(option, _fit(option, text))
    match option.kind:
        case Kind.TEXT:
            return _fit(option, text) if option.key != "tag" else text
        case Kind.LIST:
            lines = tuple(_fit(option, line.strip()) for line in text.split("\n") if line.strip())
            return tuple(name for line in lines for name in _names(option, line)) if option.key == "values" else lines
        case Kind.FLAG:
            return _flag(option, text)
        case Kind.CHOICE:
            return _choice(option, text)
        case Kind.NUMBER:
            return _number(option, text)
        case Kind.DURATION:
            return _duration(option, text)
        case Kind.WEIGHTS:
            return _weights(text)


def _names(option: Option, line: str) -> list[str]:
    """The files of one `--values`, as helm splits it: a row of CSV, so that a name with a comma stands in quotes."""
    try:
        (names,) = csv.reader([line], strict=True)
    except csv.Error as error:
        raise _wrong(option, line, f"It is a row of CSV, and helm cannot split it ({error}).") from error
    if not all(name.strip() for name in names):
        raise _wrong(option, line, "A name is missing before or behind a comma.")
    return names


def _fit(option: Option, text: str) -> str:
    if UNFIT.search(text):
        raise _wrong(option, text, "It holds a line break, a control character, or bytes that are not UTF-8.")
    return text


def _wrong(option: Option, text: str, should: str) -> UsageError:
    return UsageError(
        f"--{option.name} {_shown(text)} is wrong.", should, f"Correct --{option.name} (or {option.variable})."
    )


# Neither a name nor a sentence has these, and YAML, which the record is written in, cannot carry them.
UNFIT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _flag(option: Option, text: str) -> bool:
    if text.lower() in ("", "false", "0", "no", "off"):
        return False
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    raise _wrong(option, text, "It is a switch: true or false.")


def _choice(option: Option, text: str) -> str:
    if text not in option.choices:
        raise _wrong(option, text, "It is one of " + ", ".join(option.choices) + ".")
    return text


def _number(option: Option, text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise _wrong(option, text, "It is a whole number from 1 on.")
    return int(text)


def _duration(option: Option, text: str) -> float:
    found = re.fullmatch(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6}(?:\.[0-9]+)?)s?)?", text)
    if not text or found is None:
        raise _wrong(option, text, "It is a time such as 90s, 10m or 1h30m.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total < 1:
        raise _wrong(option, text, "It is a time of one second at least.")
    return total


def _weights(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in re.split(r"[,\n]", text.strip())] if text.strip() else []
    if not all(re.fullmatch(r"[0-9]{1,3}", part) for part in parts):
        problem: str | None = "a weight is not a whole number"
        weights: tuple[int, ...] = ()
    else:
        weights = tuple(map(int, parts))
        problem = weights_problem(weights)
    if problem:
        raise UsageError(
            f"--weights {_shown(text)} is not a list of weights: {problem}.",
            "The canary's weights rise from stage to stage, and the last one is 100.",
            "Give a list such as 10,90,100.",
        )
    return weights


def _cloud(option: Option, text: str) -> Cloud:
    try:
        return parse_cloud(text)
    except ValueError as error:
        raise _wrong(option, text, f"{error}.") from None


_ID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
AZURE_NAMES = {
    "cluster_name": (
        r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?",
        "A cluster's name has letters, digits, `-` and `_`.",
    ),
    "resource_group": (r"[\w().-]{0,89}[\w()-]", "A resource group has letters, digits, `-`, `_`, `.` and brackets."),
    "subscription": (_ID, "It is the id of the subscription, not its name (`az account show --query id`)."),
    "client_id": (_ID, "It is the application's (client) id."),
    "tenant_id": (_ID + r"|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", "It is the tenant's id, or one of its domains."),
    "server_id": (_ID, "It is an application's id."),
}


def check_azure(options: Options) -> None:
    """Raises UsageError unless the options of AKS are whole and fit each other; they go into addresses as they are."""
    # Another tool's AZURE_CLIENT_ID is no reason to stop a command that has nothing to do with Azure.
    used = options.cluster_name or options.command not in RELEASE or options.chart.startswith("oci://")
    for key, (pattern, should) in AZURE_NAMES.items() if used else ():
        value = getattr(options, key)
        if value and not re.fullmatch(pattern, value):
            raise _wrong(BY_KEY[key], value, should)
    where = {
        name: getattr(options, name.replace("-", "_")) for name in ("cluster-name", "resource-group", "subscription")
    }
    needed = bool(options.cluster_name or options.resource_group) or options.command is Command.CREDENTIALS
    missing = [f"--{name}" for name, value in where.items() if not value]
    if needed and missing:
        raise UsageError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
            "An AKS cluster is found by its name, its resource group and its subscription.",
            f"Give {' and '.join(missing)}.",
        )
    if options.cluster_name and (options.kubeconfig or options.context):
        raise UsageError(
            "--cluster-name was given together with --kubeconfig or --context.",
            "Each of them says which cluster is meant.",
            "Leave out one of them.",
        )
    if options.admin and not options.cluster_name:
        raise UsageError(
            "--admin was given without --cluster-name.", "It is about the credentials of AKS.", "Leave it out."
        )
    if options.command is Command.CREDENTIALS and not options.write:
        raise UsageError("No file was given.", "`credentials` writes a kubeconfig.", "Give --write PATH.")


def check_tag(tag: str) -> None:
    """Raises UsageError unless this can be an image's tag (OCI distribution: 128 characters of a small set)."""
    if not tag:
        raise UsageError(
            "No image tag was given.",
            "Neither --tag nor HELM_CANARY_TAG, BUILD_BUILDID or GITHUB_RUN_ID has a value.",
            "Give --tag with the tag that the image was pushed with.",
        )
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag):
        return
    means = "A tag has at most 128 letters, digits, `_`, `.` or `-`, and begins with none of the last two."
    if "${{" in tag or "$(" in tag:
        means = "It holds a variable that the pipeline did not replace: it is not defined there, or misspelt."
    raise UsageError(
        f"The image tag {_shown(tag)} is wrong.", means, "Give --tag with the tag that the image was pushed with."
    )


def _check_names(options: Options) -> None:
    if not options.release:
        raise UsageError("No release was given.", "Helm needs the name of the release.", "Give --release NAME.")
    for name, value, limit in (("release", options.release, 53), ("namespace", options.namespace, 63)):
        if value and (len(value) > limit or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", value)):
            raise UsageError(
                f"--{name} {_shown(value)} is not a name that Kubernetes accepts.",
                f"It has lower-case letters, digits and `-`, at most {limit}.",
                f"Correct --{name}.",
            )
    for reference in options.allow:
        if not re.fullmatch(r"[A-Za-z]+/[a-z0-9.-]+", reference):
            raise UsageError(
                f"--allow {_shown(reference)} does not name an object.",
                "It is KIND/NAME, such as Service/productpage.",
                "Correct --allow.",
            )


def _check_stages(options: Options) -> None:
    """A pipeline with fewer stages than the release would end before it, and nobody would know."""
    made = len(stages_for(options.weights))
    if options.stages is not None and options.stages != made:
        raise UsageError(
            f"The pipeline has {options.stages} stages, but these weights make {made}.",
            "A stage for each weight, and steady, promote, return and finish.",
            f"Give --weights a number for each canary stage of the pipeline, or make a pipeline of {made} stages.",
        )


def _stage_number(command: Command, positional: str, weights: tuple[int, ...]) -> int:
    if command not in RENDERING:
        return 0
    if command is Command.PLAN and positional == "all":
        return 0
    stage = find_stage(weights, positional)
    if stage is None:
        names = [f"{stage.number} ({stage.name})" for stage in stages_for(weights)]
        near = _nearest(positional, [stage.name for stage in stages_for(weights)])
        raise UsageError(
            f"There is no stage {_shown(positional)}.",
            "With these weights the stages are " + ", ".join(names) + ".",
            f"Perhaps you meant {near}." if near else "Give a number or a name of these.",
        )
    return stage.number


def _nearest(word: str, known: Sequence[str]) -> str:
    # Imported here: only a misspelling needs it, and every start would pay for it.
    import difflib

    return next(iter(difflib.get_close_matches(word, known, n=1)), "")


def _check_paths(options: Options) -> None:
    """What helm or the program itself would take for something else."""
    for name, value in (("chart", options.chart), *(("values", path) for path in options.values)):
        if value.strip().startswith("-"):
            raise UsageError(
                f"--{name} {_shown(value)} is wrong.",
                "It begins with `-`: a value is missing, or it means standard input, where helm gets the record from.",
                f"Correct --{name}; write ./-name for a file that is called so.",
            )
    if options.url and not re.match(r"https?://[^/\s]", options.url):
        raise UsageError(
            f"--url {_shown(options.url)} is wrong.", "It is an address such as http://10.0.0.4.", "Correct --url."
        )


OWN_VALUES = (
    ("release",),
    *(
        (f"{track}Deployment", *field)
        for track in ("production", "canary")
        for field in (("replicaCount",), ("weight",), ("image", "tag"))
    ),
)
USERS_OWN = ("productionDeployment", "replicaCount")


def _check_set(line: str) -> None:
    """The plan's own values may not be fought: two hands on one weight is how requests are lost."""
    for path in set_paths(line):
        if path != USERS_OWN and any(path[: len(own)] == own[: len(path)] for own in OWN_VALUES):
            raise UsageError(
                f"--set of {_shown('.'.join(path))}, which the plan sets itself.",
                "Tags, weights and replicas follow from the stage; a second hand on them would lose requests.",
                "Leave it out. The tag is --tag, weights are --weights; production's replicas are "
                "productionDeployment.replicaCount.",
            )


def set_paths(line: str) -> list[tuple[str, ...]]:
    """The paths of the values that a `--set` line sets, read as helm reads it. Raises UsageError where helm would fail.

    A path ends before a list index: whatever stands behind it, the value there becomes a list.
    """
    paths, at = [], 0
    while at < len(line):
        path, at = _path(line, at)
        paths.append(path)
        at = _behind_value(line, at)
    if not paths:
        raise _no_pair(line)
    return paths


def _path(line: str, at: int) -> tuple[tuple[str, ...], int]:
    parts: list[str] = []
    in_list = False
    while True:
        part, stop, at = _word(line, at, "=[,.")
        if not in_list:
            parts.append(part.strip())
        if stop == "=":
            return tuple(parts), at
        if stop == "[":
            in_list = True
            _, stop, at = _word(line, at, "]")
        if stop in ("", ","):
            raise _no_pair(line)


def _behind_value(line: str, at: int) -> int:
    if line[at : at + 1] != "{":
        return _word(line, at, ",")[2]
    _, stop, at = _word(line, at + 1, "}")
    if not stop or line[at : at + 1] not in ("", ","):
        raise _no_pair(line)
    return at + 1


def _word(line: str, at: int, stops: str) -> tuple[str, str, int]:
    """(text, the character that ended it or nothing, where the rest begins); a backslash takes the next one as it is."""
    text = ""
    while at < len(line):
        char = line[at]
        if char in stops:
            return text, char, at + 1
        if char == "\\":
            at += 1
            char = line[at : at + 1]
        text += char
        at += 1
    return text, "", at


def _no_pair(line: str) -> UsageError:
    return UsageError(
        f"--set {_shown(line)} is not a value.", "It is KEY=VALUE, as helm --set takes it.", "Correct --set."
    )
