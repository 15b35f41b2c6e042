"""Wrong input that the program finds by itself: exit 2, three parts, and neither helm nor kubectl was started."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from helm_canary.__main__ import main
from tests.cli.program import CHART, Ran, check_refusal, run

if TYPE_CHECKING:
    from tests.cli.conftest import Marks

STAGE = ("stage", "2", "--release", "productpage", "--namespace", "shop", "--chart", str(CHART))
TAGGED = (*STAGE, "--tag", "84")
ROLLBACK = ("rollback", "--release", "productpage", "--namespace", "shop")

# what: (arguments, variables, a part of what is said)
Case = tuple[tuple[str, ...], dict[str, str], str]

TAGS: dict[str, Case] = {
    "none": (STAGE, {}, "No image tag was given"),
    "empty": ((*STAGE, "--tag", ""), {}, "--tag was given without a value"),
    "empty, in spite of a build id": ((*STAGE, "--tag="), {"BUILD_BUILDID": "99"}, "--tag was given without a value"),
    "a space": ((*STAGE, "--tag", " "), {}, "The image tag ' ' is wrong"),
    "with a space": ((*STAGE, "--tag", "8 4"), {}, "The image tag '8 4' is wrong"),
    "a space behind": ((*STAGE, "--tag", "84 "), {}, "The image tag '84 ' is wrong"),
    "a leading dash": ((*STAGE, "--tag=-84"), {}, "The image tag '-84' is wrong"),
    "a leading dash as an option": ((*STAGE, "--tag", "-84"), {}, "--tag"),
    "a leading dot": ((*STAGE, "--tag", ".84"), {}, "The image tag '.84' is wrong"),
    "129 characters": ((*STAGE, "--tag", "a" * 129), {}, "at most 128"),
    "an expression of GitHub": ((*STAGE, "--tag", "${{ github.run_id }}"), {}, "a variable that the pipeline did not"),
    "a macro of Azure": ((*STAGE, "--tag", "$(Build.BuildId)"), {}, "a variable that the pipeline did not replace"),
    "a newline": ((*STAGE, "--tag", "84\n85"), {}, r"The image tag '84\n85' is wrong"),
    "a newline behind": ((*STAGE, "--tag", "84\n"), {}, r"The image tag '84\n' is wrong"),
    "a comma, which would set another value": ((*STAGE, "--tag", "84,x=1"), {}, "The image tag '84,x=1' is wrong"),
    "a colon": ((*STAGE, "--tag", "page:84"), {}, "The image tag 'page:84' is wrong"),
    "a digest": ((*STAGE, "--tag", "84@sha256:00"), {}, "The image tag '84@sha256:00' is wrong"),
    "not ASCII": ((*STAGE, "--tag", "８４"), {}, "The image tag '８４' is wrong"),
    "of the variable": (STAGE, {"HELM_CANARY_TAG": "8 4"}, "The image tag '8 4' is wrong"),
    "of the platform": (STAGE, {"GITHUB_RUN_ID": "$(x)"}, "a variable that the pipeline did not replace"),
    "to plan from": (("plan", *TAGGED[1:], "--from", "8 3"), {}, "The image tag '8 3' is wrong"),
}

STAGES: dict[str, Case] = {
    name: (("stage", stage, *TAGGED[2:], *more), {}, said)
    for name, stage, more, said in (
        ("zero", "0", (), "There is no stage '0'"),
        ("beyond the last", "8", (), "There is no stage '8'"),
        ("beyond the last of a short list", "6", ("--weights", "100"), "There is no stage '6'"),
        ("of another list", "canary-10", ("--weights", "5,100"), "Perhaps you meant canary-100"),
        ("misspelt", "promot", (), "Perhaps you meant promote"),
        ("empty", "", (), "There is no stage ''"),
        ("not a number", "two", (), "There is no stage 'two'"),
        ("a fraction", "2.0", (), "There is no stage '2.0'"),
        ("with a sign", "+2", (), "There is no stage '+2'"),
        ("with a zero", "02", (), "There is no stage '02'"),
        ("all, which is for plan", "all", (), "There is no stage 'all'"),
        ("another digit two", "２", (), "There is no stage '２'"),
        ("a line break", "2\n", (), r"There is no stage '2\n'"),
    )
}

WEIGHTS: dict[str, Case] = {
    name: ((*TAGGED, f"--weights={weights}"), {}, said)
    for name, weights, said in (
        ("empty", "", "--weights was given without a value"),
        ("blank", " ", "the list is empty"),
        ("a comma", ",", "a weight is not a whole number"),
        ("falls", "10,5,100", "the weights do not rise"),
        ("repeats", "10,10,100", "the weights do not rise"),
        ("repeats its end", "10,100,100", "the weights do not rise"),
        ("does not end in 100", "10,90", "the list ends in 90, not in 100"),
        ("zero", "0,100", "a weight is not between 1 and 100"),
        ("more than all", "10,101", "a weight is not between 1 and 100"),
        ("negative", "-10,100", "a weight is not a whole number"),
        ("a fraction", "0.5,100", "a weight is not a whole number"),
        ("a word", "ten,100", "a weight is not a whole number"),
        ("per cent", "10%,100%", "a weight is not a whole number"),
        ("a hole", "10,,100", "a weight is not a whole number"),
        ("a comma behind", "10,100,", "a weight is not a whole number"),
        ("semicolons", "10;100", "a weight is not a whole number"),
        ("a list", "[10,100]", "a weight is not a whole number"),
        ("digits of another script", "١٠,100", "a weight is not a whole number"),
    )
}

FOUGHT = "which the plan sets itself"
SETS: dict[str, Case] = {
    pair: ((*TAGGED, "--set", pair), {}, said)
    for pair, said in (
        ("productionDeployment.weight=90", FOUGHT),
        ("productionDeployment.image.tag=84", FOUGHT),
        ("canaryDeployment.weight=10", FOUGHT),
        ("canaryDeployment.image.tag=84", FOUGHT),
        ("canaryDeployment.replicaCount=1", FOUGHT),
        ("productionDeployment={a}", FOUGHT),
        ("productionDeployment=null", FOUGHT),
        ("canaryDeployment=", FOUGHT),
        ("productionDeployment[0]=a", FOUGHT),
        ("productionDeployment.image=page:84", FOUGHT),
        ("canaryDeployment.image=null", FOUGHT),
        ("canaryDeployment.image.tag[0]=84", FOUGHT),
        ("canaryDeployment.weight.a=1", FOUGHT),
        ("release=", FOUGHT),
        ("release=null", FOUGHT),
        ("release={}", FOUGHT),
        ("release[0]=a", FOUGHT),
        ("release[0].pods=a", FOUGHT),
        ("release.pods.production=null", FOUGHT),
        ("release.pods.canary.spec.containers[0].image=page:1", FOUGHT),
        (" release.reached=finish", FOUGHT),
        ("release .reached=finish", FOUGHT),
        ("pod.env.A=1,release.reached=finish", FOUGHT),
        ("pod.env.A=1, canaryDeployment.weight=10", FOUGHT),
        ("pod.env.A={1,2},canaryDeployment.weight=10", FOUGHT),
        (r"pod.env.A=\\,canaryDeployment.weight=10", FOUGHT),
        (r"rel\ease.reached=finish", FOUGHT),
        (r"canary\Deployment.weight=10", FOUGHT),
        ("pod.env.A={1,canaryDeployment.weight=10", "is not a value"),
        ("pod.env.A", "is not a value"),
        ("pod.env.A=1,pod.env.B", "is not a value"),
        ("pod.env.A=1,,pod.env.B=2", "is not a value"),
        ("pod.env.A={1}2", "is not a value"),
        (",", "is not a value"),
    )
}
SETS |= {
    "empty": ((*TAGGED, "--set", ""), {}, "--set was given without a value"),
    "second --set": ((*TAGGED, "--set", "pod.env.A=1", "--set", "release.reached=finish"), {}, FOUGHT),
    "second line of the variable": (
        TAGGED,
        {"HELM_CANARY_SET": "pod.env.A=1\n\n  canaryDeployment.weight=10\n"},
        FOUGHT,
    ),
}

OTHERS: dict[str, Case] = {
    "nothing": ((), {}, "the following arguments are required: COMMAND"),
    "no such command": (("deploy",), {}, "invalid choice: 'deploy'"),
    "a shortened command": (("stag", "2"), {}, "invalid choice: 'stag'"),
    "no such option": ((*TAGGED, "--nope"), {}, "unrecognized arguments: --nope"),
    "a shortened option": ((*TAGGED, "--time", "5s"), {}, "unrecognized arguments: --time"),
    "an option of another command": ((*ROLLBACK, "--tag", "84"), {}, "unrecognized arguments: --tag"),
    "an option without its value": ((*TAGGED, "--chart"), {}, "expected one argument"),
    "a word too many": ((*TAGGED, "now"), {}, "unrecognized arguments: now"),
    "no stage": (("stage", "--release", "x"), {}, "the following arguments are required: N|NAME"),
    "no release": (("stage", "2", "--tag", "84", "--chart", str(CHART)), {}, "No release was given"),
    "no chart": (("stage", "2", "--tag", "84", "--release", "x"), {}, "No chart was given"),
    "an empty id to roll back": ((*ROLLBACK, "--of", ""), {}, "--of was given without a value"),
    "an empty namespace": (
        ("status", "--release", "x", "--namespace", ""),
        {},
        "--namespace was given without a value",
    ),
    "a misspelt variable": (TAGGED, {"HELM_CANARY_TGA": "84"}, "Set HELM_CANARY_TAG"),
    "a variable of no option": (TAGGED, {"HELM_CANARY_XYZZY": ""}, "There is no option for the variable"),
    "chart from standard input": ((*STAGE[:-1], "-", "--tag", "84"), {}, "--chart"),
    "chart that is an option of helm": (
        ("stage", "2", "--release", "x", "--chart=--post-renderer=evil", "--tag", "84"),
        {},
        "--chart '--post-renderer=evil' is wrong",
    ),
    "values from standard input": ((*TAGGED, "--values", "-"), {}, "--values '-' is wrong"),
    "values from standard input by the variable": (TAGGED, {"HELM_CANARY_VALUES": "-"}, "--values '-' is wrong"),
}
OTHERS |= {
    f"--{name} {value!r}": ((*TAGGED, f"--{name}={value}"), {}, f"--{name}")
    for name, values in {
        "release": ("Upper", "under_score", "-dash", "dash-", "a.b", "a" * 54, "a b", "ä", "a\n"),
        "namespace": ("Upper", "a/b", "a" * 64, "--all-namespaces"),
        "timeout": ("0", "0s", "-5s", "soon", "5x", "", "1e3", "0.5s", "10 m", "s", "1m1h"),
        "drain": ("0", "-1", "none"),
        "proof": ("nonsense", "", "Auto", "proxies,requests"),
        "output": ("yaml", ""),
        "canary-replicas": ("0", "-1", "two", "1.5", ""),
        "requests": ("0", "many"),
        "allow": ("Service", "Service/", "/x", "Service/a b"),
        "url": ("10.0.0.4", "ftp://10.0.0.4", "http://", "--flag"),
        "path": ("a\nb",),
        "comment": ("two\nlines", "a bell \x07", "a next line \x85", "no UTF-8 \udcff"),
        "approved-by": ("\x1b[31mred",),
        "values": ("",),
        "context": ("a\x00b", ""),
        "dry-run": ("yes",),
    }.items()
    for value in values
}

CASES = {
    f"{group}: {name}": case
    for group, cases in {"tag": TAGS, "stage": STAGES, "weights": WEIGHTS, "set": SETS, "": OTHERS}.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", CASES.values(), ids=[*CASES])
def test_is_refused_before_anything_is_started(
    case: Case, marks: Marks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong input is told in three parts with exit code 2, and no process was started for it."""
    arguments, variables, said = case
    for name in ("GITHUB_RUN_ID", "BUILD_BUILDID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (variables | {"PATH": str(marks)}).items():
        monkeypatch.setenv(name, value)

    code = main(arguments)
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")

    monkeypatch.setenv("HELM_CANARY_OUTPUT", "json")
    code = main(arguments)
    shown = capsys.readouterr()
    check_refusal(Ran(code=code, stdout=shown.out, stderr=shown.err), 2, "usage", said)
    assert marks.called == []


def test_the_whole_program_ends_so(marks: Marks) -> None:
    """The exit code and the two streams of the process itself are those of `main`."""
    ran = run(*STAGE, "--tag", "8 4", "--output", "json", env={"PATH": str(marks)})

    check_refusal(ran, 2, "usage", "The image tag '8 4' is wrong")
    assert marks.called == []


def test_the_marks_are_seen(marks: Marks) -> None:
    """What is not wrong does start a process, so that the tests above could see one."""
    ran = run(*TAGGED, env={"PATH": str(marks)})

    assert ran.code == 3
    assert marks.called


@pytest.mark.parametrize(
    ("pair", "taken"),
    [
        ("productionDeployment.replicaCount=3", True),
        ("productionDeployment.image.repository=localhost/page", True),
        ("productionDeployment.pod.env.A=1", True),
        ("canaryDeployment.pod.env.release=1", True),
        (r"productionDeployment\.weight=1", True),
        (r"pod.env.A=1\,release.reached=finish", True),
        ("pod.env.A={1,release.reached=finish}", True),
        ("pod.env.A=b=c", True),
        ("pod.tolerations[0].key=release", True),
        ("Release.x=1", True),
        ("releases=1", True),
        ("pod.env.A=", True),
        ("pod.env.A=1,", True),
        ("productionDeployment.replicaCount=3,canaryDeployment.weight=1", False),
    ],
)
def test_what_does_not_fight_the_plan_is_handed_to_helm(pair: str, taken: bool, marks: Marks) -> None:
    """A `--set` that only looks like one of the plan's own values is no wrong input."""
    ran = run(*TAGGED, "--set", pair, env={"PATH": str(marks)})

    assert ran.code == (3 if taken else 2), ran


def test_no_secret_of_a_wrong_set_is_repeated(marks: Marks) -> None:
    """A refused `--set` is named by its key alone."""
    ran = run(*TAGGED, "--set", "pod.env.PASSWORD=hunter2,release.x=hunter2", env={"PATH": str(marks)})

    assert ran.code == 2
    assert "hunter2" not in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="bytes that are no UTF-8 are a matter of Unix")
def test_bytes_that_are_no_text_are_refused(marks: Marks) -> None:
    """An argument that is no UTF-8 could not be written into the record, so it is wrong input."""
    ran = run(
        *TAGGED, "--comment", b"caf\xe9".decode("utf-8", "surrogateescape"), "--output=json", env={"PATH": str(marks)}
    )

    check_refusal(ran, 2, "usage", "--comment")
    assert json.loads(ran.stdout)
