"""Where an option's value comes from, how it is read, and which command takes it."""

from __future__ import annotations

from typing import Any

import pytest

from helm_canary.__main__ import read_arguments
from helm_canary.clouds import find_cloud
from helm_canary.errors import UsageError
from helm_canary.options import (
    BY_KEY,
    MOVING,
    RELEASE,
    RENDERING,
    TABLE,
    Command,
    Kind,
    Option,
    Options,
    gather,
    resolve,
    set_paths,
)

SOME_ID = "11111111-2222-3333-4444-555555555555"
# A good value for every option, other than its default; and what it becomes.
VALUES: dict[str, tuple[str, Any]] = {
    "tag": ("17012345678", "17012345678"),
    "release": ("shop-page", "shop-page"),
    "namespace": ("shop", "shop"),
    "chart": ("./page", "./page"),
    "chart-version": ("1.2.3", "1.2.3"),
    "values": ("a.yaml", ("a.yaml",)),
    "set": ("pod.env.A=1", ("pod.env.A=1",)),
    "weights": ("5,25,100", (5, 25, 100)),
    "canary-replicas": ("3", 3),
    "allow": ("Service/page", ("Service/page",)),
    "again": ("true", True),
    "of": ("84-1f3a9c", "84-1f3a9c"),
    "from": ("82", "82"),
    "url": ("http://10.0.0.4", "http://10.0.0.4"),
    "path": ("/health", "/health"),
    "requests": ("7", 7),
    "approved-by": ("Zoë Ångström", "Zoë Ångström"),
    "comment": ("fine: 100 % 😀", "fine: 100 % 😀"),
    "require-approval": ("canary-3", "canary-3"),
    "require-rejection": ("canary-3", "canary-3"),
    "gate-attempt": ("2", 2),
    "stages": ("7", 7),
    "started-by": ("ana", ("ana",)),
    "kubeconfig": ("/tmp/config", "/tmp/config"),
    "context": ("aks", "aks"),
    "cluster-name": ("aks-shop", "aks-shop"),
    "resource-group": ("rg-shop", "rg-shop"),
    "subscription": (SOME_ID, SOME_ID),
    "auth": ("azure-cli", "azure-cli"),
    "client-id": (SOME_ID, SOME_ID),
    "tenant-id": ("acme.example.com", "acme.example.com"),
    "cloud": ("AzureChinaCloud", find_cloud("china")),
    "admin": ("true", True),
    "public-fqdn": ("true", True),
    "write": ("./config", "./config"),
    "server-id": (SOME_ID, SOME_ID),
    "timeout": ("90s", 90.0),
    "drain": ("1m", 60.0),
    "proof": ("wait", "wait"),
    "dry-run": ("true", True),
    "output": ("json", "json"),
}
ABOUT_A_CLUSTER = ("cluster-name", "resource-group", "subscription", "admin", "public-fqdn")
FIELDS = {"from": "from_tag", "timeout": "timeout_s", "drain": "drain_s"}
PAIRS = [(option, command) for option in TABLE for command in option.commands]


def needed(command: Command, besides: str) -> dict[str, str]:
    """The fewest options that the command can do with, and that an option of AKS can."""
    least = {"release": "page"} if command in RELEASE else {}
    least |= {"tag": "84", "chart": "./page"} if command in RENDERING else {}
    if command is Command.CREDENTIALS or (besides in ABOUT_A_CLUSTER and command in RELEASE):
        least |= {name: VALUES[name][0] for name in ABOUT_A_CLUSTER[:3]}
    if command is Command.CREDENTIALS:
        least["write"] = "./config"
    return {name: value for name, value in least.items() if name != besides}


def read(command: Command, flags: dict[str, str], variables: dict[str, str] | None = None) -> Options:
    words = [command.value, *(["2"] if command in RENDERING else [])]
    for name, value in flags.items():
        words += [f"--{name}"] if BY_KEY[name.replace("-", "_")].kind is Kind.FLAG else [f"--{name}", value]
    return read_arguments(words, variables or {})


def found(options: Options, option: Option) -> Any:
    return getattr(options, FIELDS.get(option.name, option.key))


def test_every_option_is_tried() -> None:
    """The table below has a value for every option, and no other."""
    assert sorted(VALUES) == sorted(option.name for option in TABLE)


@pytest.mark.parametrize(("option", "command"), PAIRS, ids=lambda item: getattr(item, "name", str(item)).lower())
def test_each_command_takes_each_of_its_options_as_a_flag(option: Option, command: Command) -> None:
    """Every option of the table is accepted by each of its commands, and means what it says."""
    text, value = VALUES[option.name]

    options = read(command, {**needed(command, option.name), option.name: text})

    assert found(options, option) == value


@pytest.mark.parametrize(("option", "command"), PAIRS, ids=lambda item: getattr(item, "name", str(item)).lower())
def test_each_command_takes_each_of_its_options_as_a_variable(option: Option, command: Command) -> None:
    """HELM_CANARY_<NAME> does what the flag does."""
    text, value = VALUES[option.name]

    options = read(command, needed(command, option.name), {option.variable: text})

    assert option.variable == "HELM_CANARY_" + option.name.upper().replace("-", "_")
    assert found(options, option) == value


@pytest.mark.parametrize("command", [*Command], ids=lambda command: command.value)
def test_options_of_another_command_are_no_words_of_this_one(command: Command) -> None:
    """A flag of another command is refused; its variable, which a pipeline sets for all of its steps, is ignored."""
    for option in TABLE:
        if command not in option.commands:
            text, _ = VALUES[option.name]
            with pytest.raises(UsageError):
                read(command, {**needed(command, ""), option.name: text})
            assert found(read(command, needed(command, ""), {option.variable: text}), option) == getattr(
                Options(command=command), FIELDS.get(option.name, option.key)
            )


@pytest.mark.parametrize(
    "option", [option for option in TABLE if option.kind is not Kind.FLAG], ids=lambda one: one.name
)
def test_the_flag_comes_before_the_variable(option: Option) -> None:
    """The command line wins over HELM_CANARY_<NAME>; for lists too, which are not mixed."""
    text, value = VALUES[option.name]
    other = {"weights": "100", "proof": "auto", "output": "text", "timeout": "5s", "drain": "5s"}.get(option.name, "9")

    options = read(
        option.commands[0], {**needed(option.commands[0], option.name), option.name: text}, {option.variable: other}
    )

    assert found(options, option) == value


TAG_SOURCES = [
    ({"tag": "1"}, {"HELM_CANARY_TAG": "2", "BUILD_BUILDID": "3", "GITHUB_RUN_ID": "4"}, "1"),
    ({}, {"HELM_CANARY_TAG": "2", "BUILD_BUILDID": "3", "GITHUB_RUN_ID": "4"}, "2"),
    ({}, {"BUILD_BUILDID": "3", "GITHUB_RUN_ID": "4"}, "3"),
    ({}, {"BUILD_BUILDID": "", "GITHUB_RUN_ID": "17012345678"}, "17012345678"),
    ({}, {"GITHUB_RUN_ID": "0123"}, "0123"),
]


@pytest.mark.parametrize("command", RENDERING, ids=lambda command: command.value)
@pytest.mark.parametrize(("flags", "variables", "tag"), TAG_SOURCES)
def test_the_tag_is_the_build_id_where_none_was_given(
    flags: dict[str, str], variables: dict[str, str], tag: str, command: Command
) -> None:
    """--tag, then HELM_CANARY_TAG, then BUILD_BUILDID, then GITHUB_RUN_ID; an empty variable is none."""
    assert read(command, {**needed(command, "tag"), **flags}, variables).tag == tag


@pytest.mark.parametrize(
    "command", [command for command in Command if command not in RENDERING], ids=lambda one: one.value
)
@pytest.mark.parametrize("name", ["HELM_CANARY_TAG", "BUILD_BUILDID", "GITHUB_RUN_ID"])
def test_only_what_renders_takes_a_tag_from_a_build_id(name: str, command: Command) -> None:
    """`rollback`, above all, has no tag, whatever pipeline it runs in, and looks at none."""
    options = read(command, needed(command, ""), {name: "84"})

    assert (options.tag, options.of) == ("", "")
    assert read(command, needed(command, ""), {name: "$(not a tag)"}) == options


DURATIONS = [
    ("1", 1.0), ("1s", 1.0), ("90", 90.0), ("90s", 90.0), ("1.5s", 1.5), ("10m", 600.0), ("1h", 3600.0),
    ("1h30m", 5400.0), ("1h30m5s", 5405.0), ("1m30", 90.0), ("0h1m", 60.0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
@pytest.mark.parametrize("name", ["timeout", "drain"])
def test_times_are_read_as_people_write_them(name: str, text: str, seconds: float) -> None:
    """Hours, minutes and seconds; without a unit, seconds."""
    assert found(read(Command.STATUS, {"release": "page", name: text}), BY_KEY[name]) == seconds


LISTS = [
    ("a.yaml", ("a.yaml",)),
    ("a.yaml\nb.yaml", ("a.yaml", "b.yaml")),
    ("\n  a.yaml  \n\n\tb.yaml\n", ("a.yaml", "b.yaml")),
    ('a b.yaml\n"c,d.yaml"', ("a b.yaml", "c,d.yaml")),
    ("a.yaml,b.yaml\nc.yaml", ("a.yaml", "b.yaml", "c.yaml")),
    ("a.yaml\r\nb.yaml\r\n", ("a.yaml", "b.yaml")),
    ("", ()),
]


@pytest.mark.parametrize(("text", "lines"), LISTS)
def test_a_variable_has_its_list_one_a_line(text: str, lines: tuple[str, ...]) -> None:
    """Lines are values, blank lines and the blanks around one are not; blanks inside one stay. Files may stand in one line."""
    assert read(Command.STATUS, {"release": "page"}, {"HELM_CANARY_VALUES": text}).values == lines


def test_a_comma_in_another_list_stays() -> None:
    """Only helm's files are split at commas."""
    text = "a=1,b=2\nc=3"
    flags = {"release": "page", "chart": ".", "tag": "84"}
    assert read(Command.STAGE, flags, {"HELM_CANARY_SET": text}).set == ("a=1,b=2", "c=3")


def test_a_flag_of_a_list_may_be_repeated() -> None:
    """Each --values and --set is one value, in their order."""
    words = ["stage", "2", "--release", "page", "--tag", "84", "--chart", "."]
    words += [
        "--values",
        "b.yaml",
        "--set",
        "pod.env.A=1,pod.env.B={x,y}",
        "--values",
        "a.yaml",
        "--set",
        "pod.env.A=2",
    ]

    options = read_arguments(words, {})

    assert options.values == ("b.yaml", "a.yaml")
    assert options.set == ("pod.env.A=1,pod.env.B={x,y}", "pod.env.A=2")


ON, OFF = ("true", "TRUE", "1", "yes", "on"), ("false", "False", "0", "no", "")


@pytest.mark.parametrize(("text", "on"), [*((text, True) for text in ON), *((text, False) for text in OFF)])
def test_switches_are_read_as_both_platforms_write_them(text: str, on: bool) -> None:
    """Azure Pipelines writes True, GitHub true, people 1 or yes."""
    options = read(Command.STAGE, needed(Command.STAGE, ""), {"HELM_CANARY_DRY_RUN": text, "HELM_CANARY_AGAIN": text})

    assert (options.dry_run, options.again) == (on, on)


@pytest.mark.parametrize(("weights", "stage", "number"), [
    ("10,90,100", "2", 2), ("10,90,100", "canary-90", 3), ("10,90,100", "finish", 7), ("5,25,50,100", "8", 8),
    ("5,25,50,100", "promote", 6), ("100", "canary-100", 2), ("100", "5", 5), ("10 , 100", "canary-10", 2), ("10\n100", "6", 6),
])  # fmt: skip
def test_stages_have_numbers_and_names_in_every_list(weights: str, stage: str, number: int) -> None:
    """Seven is never taken for granted."""
    texts = {"release": "page", "tag": "84", "chart": ".", "weights": weights}

    assert resolve(Command.STAGE, stage, texts).stage == number


def test_plan_takes_all_stages() -> None:
    """`plan all` is no stage."""
    assert resolve(Command.PLAN, "all", {"release": "page", "tag": "84", "chart": "."}).stage == 0


def test_a_variable_that_is_not_ours_is_nobodys_business() -> None:
    """Only our own prefix is watched for misspellings."""
    texts = gather({}, {"HELM_CANARYTAG": "1", "HELM_DEBUG": "1", "CANARY_TAG": "1", "helm_canary_tag": "1"})

    assert texts["tag"] == ""


def test_the_table_is_sound() -> None:
    """Names are unique, every choice has its default among the choices, and every option has a sentence of help."""
    assert len({option.name for option in TABLE}) == len(TABLE)
    for option in TABLE:
        assert option.help.endswith(".")
        assert not option.choices or option.default in option.choices
        assert set(option.commands) <= set(Command)
    assert set(BY_KEY["dry_run"].commands) == set(MOVING)


PATHS = {
    "a=1": [("a",)],
    "a.b=1,c=2": [("a", "b"), ("c",)],
    r"a\.b=1": [("a.b",)],
    r"a\=b=1": [("a=b",)],
    "a[0].b=1": [("a",)],
    "a={x,y=1},b=2": [("a",), ("b",)],
    r"a=x\,b=1,c=2": [("a",), ("c",)],
    r"a={x\},b=1},c=2": [("a",), ("c",)],
    " a . b =1": [("a", "b")],
    "a=": [("a",)],
    "a=b=c": [("a",)],
}


@pytest.mark.parametrize(("line", "paths"), PATHS.items())
def test_a_set_line_is_read_as_helm_reads_it(line: str, paths: list[tuple[str, ...]]) -> None:
    """The keys of a `--set`, with helm's escapes, lists and indices."""
    assert set_paths(line) == paths


IDS = {"subscription": SOME_ID, "resource_group": "rg-shop", "cluster_name": "aks-shop", "release": "page"}
WRONG_FOR_AKS = {
    "no group": {"resource_group": ""},
    "no subscription": {"subscription": ""},
    "no name": {"cluster_name": ""},
    "a subscription's name": {"subscription": "Pay as you go"},
    "a path in the name": {"cluster_name": "aks/../x"},
    "a tenant's display name": {"tenant_id": "Acme Inc."},
    "a client's name": {"client_id": "deployer"},
    "a kubeconfig as well": {"kubeconfig": "/tmp/config"},
    "a context as well": {"context": "aks"},
    "no such cloud": {"cloud": "azure"},
    "a cloud without TLS": {"cloud": "authority=http://x,management=https://y"},
    "an unknown endpoint": {"cloud": "china,graph=https://x"},
    "no such auth": {"auth": "password"},
}


@pytest.mark.parametrize("texts", WRONG_FOR_AKS.values(), ids=WRONG_FOR_AKS)
def test_options_of_aks_that_do_not_fit_are_found_first(texts: dict[str, str]) -> None:
    """What cannot be sent to Azure as it is, or says two things, is wrong usage: nobody was asked by then."""
    with pytest.raises(UsageError):
        resolve(Command.STATUS, "", IDS | texts)


def test_admin_alone_is_wrong() -> None:
    """--admin without a cluster of AKS has no meaning that could be guessed."""
    with pytest.raises(UsageError):
        resolve(Command.STATUS, "", {"release": "page", "admin": "true"})


def test_variables_of_other_azure_tools_stop_nothing() -> None:
    """A job that sets AZURE_SUBSCRIPTION_ID for another tool is no user of AKS here, however odd the value."""
    options = read(Command.STATUS, {"release": "page"}, {"AZURE_SUBSCRIPTION_ID": "odd one", "AZURE_CLIENT_ID": "$(x)"})

    assert options.cluster_name == ""


@pytest.mark.parametrize(("text", "authority", "scope", "audience"), [
    ("public", "https://login.microsoftonline.com", "https://management.azure.com/.default", "api://AzureADTokenExchange"),
    ("AzureUSGovernment", "https://login.microsoftonline.us", "https://management.core.usgovcloudapi.net/.default",
     "api://AzureADTokenExchangeUSGov"),
    ("china,authority=https://login.chinacloudapi.cn", "https://login.chinacloudapi.cn",
     "https://management.chinacloudapi.cn/.default", "api://AzureADTokenExchangeChina"),
    ("authority=https://login.local,management=https://arm.local,audience=api://x", "https://login.local",
     "https://arm.local/.default", "api://x"),
])  # fmt: skip
def test_a_cloud_is_a_name_or_endpoints(text: str, authority: str, scope: str, audience: str) -> None:
    """By any name that Azure's tools use; endpoints replace what the named cloud, or the public one, has."""
    cloud = resolve(Command.STATUS, "", IDS | {"cloud": text}).cloud

    assert (cloud.authority, cloud.scope, cloud.audience) == (authority, scope, audience)
