"""What a CI is told: read back by the rules that its runner reads by, with values that try to be more than values."""

from __future__ import annotations

import html
import random
import re
import string
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from helm_canary.ci.azure_pipelines import AzurePipelines, camel
from helm_canary.ci.github import SUMMARY_LIMIT, GitHub, limited
from helm_canary.ci.masks import Masks
from helm_canary.ci.platform import platform_of
from helm_canary.ci.publish import publish
from helm_canary.core.model import ALL_PRODUCTION, Direction, Observed, Plan, Record, Result, TrackState, Version
from helm_canary.errors import FailedError
from helm_canary.outcome import Outcome
from helm_canary.report import outputs
from helm_canary.summary import block, outcome_markdown, plain
from tests.cli.program import run

HOSTILE = (
    "a\nresult=done", "a\n::error::x", "::set-output name=result::done", "##[error]x", "##vso[task.complete result=Failed;]x",
    "x<<EOF\ninjected\nEOF", "end-0000\ninjected=1", "50%\r\n%0A::x", "]x;isSecret=true", "\u2028::error::x", "a%AZP250Ab",
    "# heading\n\n| a | b |\n|---|---|\n| c | d |", "<script>alert(1)</script>", "![x](https://example.com/x.png)", "```\nx", "",
)  # fmt: skip
VERSION = Version(tag="84", digest="aaaaaa")


def steady(tag: str = "84") -> Observed:
    version = replace(VERSION, tag=tag)
    track = TrackState(version=version, replicas=2, pods=2, ready=2)
    return Observed(
        installed=True, revision=7, production=track, canary=replace(track, replicas=0), asked=ALL_PRODUCTION
    )


def outcome(text: str, *, failed: bool = False) -> Outcome:
    """What a command came to, with a foreign text wherever one may stand."""
    made = Plan(steps=(), result=Result.DONE, goal=None, because=text, notes=(text,))
    error = FailedError(text, text, text, (text, text)) if failed else None
    return Outcome(
        result=Result.FAILED if failed else Result.DONE,
        changed=True,
        plan=None if failed else made,
        observed=steady(text),
        traffic="production",
        proof="unproven",
        in_flight_cut=3,
        error=error,
    )


# --- GitHub ------------------------------------------------------------------------------------------------------------


def read_output_file(text: str) -> dict[str, str]:
    """As the runner does: the first of `=` and `<<` in a line decides; a delimiter ends at a line that equals it."""
    found, lines = {}, text.split("\n")
    assert lines.pop() == "", "the file ends with a line break"
    while lines:
        line = lines.pop(0)
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if heredoc >= 0 and (equals < 0 or heredoc < equals):
            name, delimiter, value = line[:heredoc], line[heredoc + 2 :], []
            while (line := lines.pop(0)) != delimiter:
                value.append(line)
            found[name] = "\n".join(value)
        else:
            assert equals > 0, line
            found[line[:equals]] = line[equals + 1 :]
    return found


def is_github_command(line: str) -> bool:
    """`::` at the start of the trimmed line, or the old form anywhere."""
    return bool(re.match(r"\s*::[^:]", line)) or "##[" in line


def random_texts(seed: int, number: int) -> list[str]:
    chance = random.Random(seed)
    parts = [*HOSTILE, *string.printable, "::", "##", "%", "\n", "é", "\u2028"]
    return ["".join(chance.choices(parts, k=chance.randint(1, 6))) for _ in range(number)]


@pytest.mark.parametrize("before", ["", "already=there\n", "no-end=of-line"])
def test_outputs_come_back_as_they_were_written(before: str, tmp_path: Path) -> None:
    """Whatever a value holds, the runner reads these keys with these values and no other."""
    path = tmp_path / "output"
    for text in (*HOSTILE, *random_texts(1, 300)):
        path.write_bytes(before.encode())
        values = {"result": text, "tag": "84", "previous-tag": text}
        assert GitHub(output_path=str(path), summary_path="").outputs(values) == []
        kept = read_output_file(before if before.endswith("\n") else before + "\n")
        assert read_output_file(path.read_bytes().decode()) == {**kept, **values}


@pytest.mark.parametrize("failed", [False, True], ids=["done", "failed"])
def test_no_foreign_text_is_a_command_to_github(
    failed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of all that is published only our own annotations are commands, one a line, and each keeps its text to itself."""
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    masks = Masks(platform=platform_of({"GITHUB_ACTIONS": "true", **files}))
    for text in (*HOSTILE, *random_texts(2, 100)):
        publish(outcome(text, failed=failed), f"stage {text}", masks)
        said = capsys.readouterr()
        assert said.out == ""
        for line in re.split(r"[\r\n]", said.err.rstrip("\n")):
            assert re.match(r"::(error|warning) title=[^:,\r\n]*::", line), line
            assert "##[" not in line
    assert set(read_output_file((tmp_path / "output").read_bytes().decode())) == set(outputs(outcome("x")))


def test_a_summary_that_is_too_long_is_cut_at_a_line() -> None:
    """The runner drops a summary of over 1 MiB whole; ours ends before, at the end of a line, and says so."""
    cut = limited("é" * 50 + "\n" + ("line of the log\n" * 100_000))
    assert len(cut.encode()) < SUMMARY_LIMIT + 200
    assert "line of the log\n\n(The rest" in cut
    assert limited("short\n") == "short\n"


# --- Azure Pipelines ---------------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """Reads logging commands as the agent does: the first `##vso[` anywhere in a line, the first `]` after it."""

    variables: dict[str, str] = field(default_factory=dict)
    issues: list[tuple[str, str]] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def read(self, log: str) -> None:
        for line in re.split(r"\r\n|\r|\n", log):
            at = line.find("##vso[")
            if at < 0:
                assert not re.search(r"##\[(?!group\]|endgroup\])", line), line
                continue
            head, _, data = line[at + 6 :].partition("]")
            command, _, rest = head.partition(" ")
            properties = dict(pair.split("=", 1) for pair in rest.split(";") if pair)
            self._take(
                command, {key: self._unescaped(value) for key, value in properties.items()}, self._unescaped(data)
            )

    @staticmethod
    def _unescaped(text: str) -> str:
        for code, character in (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%AZP25", "%")):
            text = text.replace(code, character)
        return text

    def _take(self, command: str, properties: dict[str, str], data: str) -> None:
        if command == "task.setvariable":
            assert properties.keys() == {"variable", "isOutput"}
            self.variables[properties["variable"]] = data
        elif command == "task.logissue":
            self.issues.append((properties["type"], data))
        elif command == "build.addbuildtag":
            self.tags.append(data)
        else:
            assert command == "task.uploadsummary", command
            self.summaries.append(Path(data).read_text())


@pytest.mark.parametrize("failed", [False, True], ids=["done", "failed"])
def test_azure_pipelines_reads_what_was_meant(failed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Variables in camel case with their values as they are, issues with their text, one summary; nothing else."""
    masks = Masks(platform=platform_of({"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": str(tmp_path)}))
    for text in (*HOSTILE, *random_texts(3, 100)):
        publish(outcome(text, failed=failed), f"stage {text}", masks)
        agent = Agent()
        agent.read(capsys.readouterr().err)
        assert agent.variables == {camel(key): value for key, value in outputs(outcome(text, failed=failed)).items()}
        assert {kind for kind, _ in agent.issues} == ({"error", "warning"} if failed else {"warning"})
        assert len(agent.summaries) == 1


@pytest.mark.parametrize(
    ("asked", "host", "changed", "tags"),
    [
        ("stage 3", "build", True, ["84-canary-90"]),
        ("rollback", "build", True, ["84-rollback"]),
        ("stage 3", "release", True, []),
        ("stage 3", "build", False, []),
    ],
)
def test_a_run_is_tagged_with_what_it_did(
    asked: str, host: str, changed: bool, tags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of Azure Pipelines are found by the version and the stage that they reached; classic releases have no tags."""
    masks = Masks(platform=platform_of({"TF_BUILD": "True", "SYSTEM_HOSTTYPE": host}))
    record = Record(
        direction=Direction.FORWARD,
        new=VERSION,
        previous=replace(VERSION, tag="83"),
        reached="canary-90",
        toward="canary-90",
        weights=(10, 90, 100),
        replicas=2,
    )
    done = replace(outcome("x"), changed=changed, observed=replace(steady(), record=record))
    publish(done, asked, masks)
    agent = Agent()
    agent.read(capsys.readouterr().err)
    assert agent.tags == tags


def test_outputs_of_azure_are_in_camel_case() -> None:
    """The names that section 6 of the design fixes, as Azure's own tasks spell theirs."""
    said = AzurePipelines(folder="").outputs({"in-flight-cut": "0", "tag": "84"})
    assert [re.findall(r"variable=(\w+);", line)[0] for line in said] == ["inFlightCut", "tag"]


# --- the summary -------------------------------------------------------------------------------------------------------


def shape_of(markdown: str) -> list[str]:
    """The structure that a reader of Markdown sees: kinds of blocks and marks, without any text."""
    found = []
    for token in MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(markdown):
        found.append(token.type)
        found += [child.type for child in token.children or [] if child.type != "text"]
    return found


def text_of(markdown: str) -> str:
    tokens = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(markdown)
    return "".join(child.content for token in tokens for child in token.children or [] if child.type == "text")


@pytest.mark.parametrize("failed", [False, True], ids=["done", "failed"])
def test_no_foreign_text_changes_the_summary(failed: bool) -> None:
    """Whatever a pod, a chart or an input says, the page has the same headings, tables and lists, and no link or HTML."""
    wanted = shape_of(outcome_markdown(outcome("words", failed=failed), "stage 3"))
    assert "table_open" in wanted
    for text in (*HOSTILE, *random_texts(4, 300)):
        if plain(text):
            assert shape_of(outcome_markdown(outcome(text, failed=failed), "stage 3")) == wanted, text


def test_a_text_stays_readable_in_the_summary() -> None:
    """What is escaped for Markdown reads as it was written."""
    text = "pods `a_b` of <none>: 1 | 2 [x](y) #3 *4* at 10.0.0.1 & ~5~ -- $6"
    assert text_of(plain(text)) == text


def test_no_line_of_a_log_closes_its_block() -> None:
    """A fence is longer than any run of backticks in it."""
    tokens = MarkdownIt().parse(block(("```", "# heading", "`````", "~~~")))
    assert [token.type for token in tokens] == ["fence"]


# --- the program -------------------------------------------------------------------------------------------------------


def test_the_program_tells_github_what_went_wrong(tmp_path: Path) -> None:
    """A wrong input sets the outputs, an annotation and a summary, and the JSON answer is alone on standard output."""
    output, summary = tmp_path / "output", tmp_path / "summary"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    ran = run("stage", "9", "--release", "page", "--chart", ".", "--tag", "84", "--output", "json", env=env)

    assert ran.code == 2
    said = read_output_file(output.read_text())
    assert (said["result"], said["changed"], said["traffic"]) == ("usage", "false", "unknown")
    assert ran.answer["result"] == "usage"
    (command,) = [line for line in ran.stderr.splitlines() if is_github_command(line)]
    assert command.startswith("::error title=helm-canary stage 9::")
    assert "wrong input, nothing was changed" in summary.read_text()


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (("plan", "9"), "helm-canary plan 9"),
        (("status",), "helm-canary status"),
        (("verify", "--requests", "no"), "helm-canary verify"),
        (("credentials",), "helm-canary credentials"),
        (("stagee", "2"), "helm-canary"),
        ((), "helm-canary"),
    ],
)
def test_whatever_command_fails_is_an_annotation(words: tuple[str, ...], title: str, tmp_path: Path) -> None:
    """A step that fails says why on the page of the run, whatever it was asked for."""
    env = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": ""}
    ran = run(*words, env=env)
    assert ran.code == 2
    (command,) = [line for line in ran.stderr.splitlines() if is_github_command(line)]
    assert command.startswith(f"::error title={title}::")
    assert read_output_file((tmp_path / "output").read_text())["result"] == "usage"


SECRET = "eyJhbGciOi.eyJzdWIiOi-x_1.c2ln+bmF0dXJl/ZQ=="


def test_no_secret_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A secret in the words of a tool is gone from annotations and summary, although its characters are escaped there."""
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    masks = Masks(platform=platform_of({"GITHUB_ACTIONS": "true", **files}))
    masks.add(SECRET)
    capsys.readouterr()
    for failed in (False, True):
        publish(replace(outcome(f"Bearer {SECRET} x", failed=failed), observed=steady()), "stage 3", masks)
    summary = html.unescape((tmp_path / "summary").read_text())
    assert "Bearer *** x" in summary
    assert SECRET not in summary + capsys.readouterr().err


@pytest.mark.parametrize("word", ["--set=db.password=hunter2hunter2", "\udcff", "3 password"])
def test_a_wrong_command_line_is_not_repeated_to_the_ci(word: str, tmp_path: Path) -> None:
    """What stands where the stage should may be a secret: the title names the command alone."""
    summary = tmp_path / "summary"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(summary)}
    ran = run("stage", word, "--release", "page", "--chart", ".", "--tag", "84", env=env)

    assert ran.code == 2
    assert "::error title=helm-canary stage::" in ran.stderr
    assert "hunter2" not in ran.stderr + summary.read_text() + (tmp_path / "output").read_text()


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The command ends as it would have; that its outputs are missing is a warning of its own."""
    env = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(tmp_path / "no" / "folder")}
    ran = run("stage", "9", "--release", "page", "--chart", ".", "--tag", "84", env=env)

    assert ran.code == 2
    assert "could not be written" in ran.stderr
