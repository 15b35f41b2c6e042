"""What each command does with its options: the wiring of adapters and execution, and the answer in both forms."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from helm_canary.access import Outside, access, exec_credential, write_kubeconfig
from helm_canary.cluster import Cluster
from helm_canary.core.foresee import after
from helm_canary.core.model import ALL_PRODUCTION, Observed, Plan, Provenance, Refusal, Track, TrackState, Upgrade
from helm_canary.core.planner import plan as make_plan
from helm_canary.core.stages import stages_for
from helm_canary.digests import chart_digest
from helm_canary.errors import RefusedError, UsageError
from helm_canary.execute import Execution
from helm_canary.gates import Review, approval, check_starter, rejection
from helm_canary.helm import ChartSource, Helm
from helm_canary.holding import Holding
from helm_canary.lease import Lease
from helm_canary.manifest import Shape, check_values, read_values
from helm_canary.options import Command, Options
from helm_canary.outcome import Outcome
from helm_canary.pod_requests import PodRequests
from helm_canary.ports import Clock, Reporter
from helm_canary.probing import NOTHING_SENT
from helm_canary.process import Connection, Processes, shown_command
from helm_canary.proxies import Proxies
from helm_canary.reading import Reading
from helm_canary.rendering import Rendered, render_fitting
from helm_canary.report import outcome_json, outcome_text, plan_text, status_text, status_values, step_line, to_json
from helm_canary.requests_probe import Requests, judge
from helm_canary.secrecy import Secrecy, suspects


@dataclass(frozen=True, kw_only=True)
class Edge:
    """What only the edge has: processes, where to report, the environment, a folder of this command's own."""

    processes: Processes
    report: Reporter
    environment: Mapping[str, str] = field(repr=False)
    workspace: str
    mask: Callable[[str], None] = field(default=lambda secret: None, repr=False)
    suspect: Callable[[str], None] = field(default=lambda text: None, repr=False)
    in_ci: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A command's answer, as text and as JSON; with the outcome where it may have moved something."""

    text: str
    json: str
    exit_code: int = 0
    outcome: Outcome | None = None


class _SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def carry_out(options: Options, edge: Edge) -> Answer:
    """Run one command. Raises CanaryError."""
    outside = Outside(environment=edge.environment, processes=edge.processes, mask=edge.mask, note=edge.report.note)
    match options.command:
        case Command.TOKEN:
            credential = exec_credential(options, outside)
            return Answer(text=credential, json=credential)
        case Command.CREDENTIALS:
            path = str(write_kubeconfig(options, outside))
            text = f"{path} is written. Use it with --kubeconfig, or KUBECONFIG."
            return Answer(text=text, json=to_json({"result": "done", "kubeconfig": path}))
        case _:
            pass
    if options.command is Command.PLAN and options.from_tag:
        # Neither a cluster nor its credentials are needed; a registry may be.
        options = replace(options, cluster_name="")
    with access(options, outside) as reached:
        return _carry_out_on_release(reached, edge)


def _carry_out_on_release(options: Options, edge: Edge) -> Answer:
    _check_values(options, edge)
    if options.command is Command.PLAN and options.from_tag:
        return _plan_without_cluster(options, edge)
    options, not_approved = _reviewed(options, edge)
    options, execution, requests = _wire(options, edge)
    execution.not_approved = not_approved
    match options.command:
        case Command.STAGE:
            outcome = execution.stage()
            return _answer(execution.count_canary_requests(outcome) if edge.in_ci else outcome)
        case Command.ROLLBACK:
            return _answer(execution.rollback())
        case Command.PLAN:
            return _plan(options, execution)
        case Command.STATUS:
            return _status(execution)
        case Command.VERIFY:
            return _verify(options, execution, requests)
        case Command.TOKEN | Command.CREDENTIALS:
            raise AssertionError("they need no release")


def _check_values(options: Options, edge: Edge) -> None:
    """Raises UsageError where one of the values files, wherever helm reads it, takes what is the program's own.

    What a value is called secret for is hidden: a chart that cannot be rendered, or a schema, may quote it before any Secret
    is known.
    """
    helm = _helm(options, edge, Connection())
    suspected: list[str] = []
    for name in options.values:
        if Path(name).is_file():
            text = Path(name).read_text(encoding="utf-8", errors="replace")
        elif ":" in name:
            text = helm.read_values(name, Path(edge.workspace))
        else:
            continue
        check_values(name, text)
        suspected += suspects(read_values(text))
    for pair in options.set:
        name, _, value = pair.partition("=")
        suspected += suspects(value, name)
    for text in suspected:
        edge.suspect(text)


def _reviewed(options: Options, edge: Edge) -> tuple[Options, RefusedError | None]:
    """The options with what the CI's people said, and why nothing may be written. Raises RefusedError, UsageError.

    A stage that changes nothing needs nobody's approval: a run that is repeated, or a first installation, is green without.
    """
    if not (options.require_approval or options.require_rejection or options.started_by):
        return options, None
    from helm_canary.ci.reviews import run_of

    run = run_of(edge.environment, edge.mask)
    if options.started_by:
        check_starter(run.started_by, options.started_by)
    if options.require_rejection:
        gate = options.require_rejection
        if not run.sees_rejections:
            raise UsageError(
                "--require-rejection is for GitHub Actions.",
                "On Azure Pipelines nothing runs in a stage that was rejected; its rollback is a stage of its own.",
                "Leave it out.",
            )
        return _on_rejection(options, rejection(run.history(gate), gate), edge), None
    if options.require_approval:
        gate = options.require_approval
        try:
            review = approval(run.history(gate), gate, options.gate_attempt)
        except RefusedError as refused:
            return options, refused
        return replace(options, approved_by=review.who, comment=review.comment), None
    return options, None


def _on_rejection(options: Options, review: Review | None, edge: Edge) -> Options:
    """Without a rejection the plan is shown, and what a person would type for it."""
    if review is not None:
        said = f"rejected {review.gate}" + (f": {review.comment}" if review.comment else "")
        return replace(options, approved_by=review.who, comment=said)
    words = ["helm-canary", "rollback", "--release", options.release]
    words += ["--namespace", options.namespace] if options.namespace else []
    words += ["--of", options.of] if options.of else []
    edge.report.note(
        f"The gate {options.require_rejection} was not rejected in this attempt, so nothing is changed. "
        f"To go back: {shown_command(words)}"
    )
    return replace(options, dry_run=True)


def _answer(outcome: Outcome) -> Answer:
    return Answer(text=outcome_text(outcome), json=outcome_json(outcome), outcome=outcome)


def _wire(options: Options, edge: Edge) -> tuple[Options, Execution, Requests]:
    Helm.check_driver(edge.environment.get("HELM_DRIVER", ""))
    connection = Connection(kubeconfig=options.kubeconfig, context=options.context, namespace=options.namespace)
    if not options.namespace:
        namespace = Cluster(processes=edge.processes, connection=connection).current_namespace()
        options, connection = replace(options, namespace=namespace), replace(connection, namespace=namespace)
    requests = Requests(processes=edge.processes, connection=connection, url=options.url, path=_path(options))

    def proxies_for(shape: Shape) -> Proxies:
        requests.host = next((host for host in shape.hosts if "*" not in host), shape.host)
        found = Proxies(processes=edge.processes, connection=connection, shape=shape)
        requests.gateways = found
        return found

    helm, clock, by = _helm(options, edge, connection), _SystemClock(), _provenance(options, edge.environment)
    cluster = Cluster(processes=edge.processes, connection=connection, learn=_secrecy(options, edge).learn)
    holding = _holding(options, edge, connection, helm, clock, by)
    reading = Reading(
        options=options,
        helm=helm,
        cluster=cluster,
        proxies_for=proxies_for,
        requests=requests,
        pods=PodRequests(processes=edge.processes, connection=connection),
        clock=clock,
        report=edge.report,
        by=by,
        workspace=Path(edge.workspace),
        holding=holding,
    )
    execution = Execution(
        options=options,
        reading=reading,
        holding=holding,
        helm=helm,
        cluster=cluster,
        clock=clock,
        report=edge.report,
        by=by,
        explain=edge.processes.explain,
    )
    edge.processes.patience_s = options.timeout_s
    edge.processes.away = lambda since_s: edge.report.waiting("the API server", "it is unreachable; retrying", since_s)
    return options, execution, requests


def _path(options: Options) -> str:
    """Of the requests that are counted; what a stage sends once has a default of its own."""
    return "/" if options.path in ("", NOTHING_SENT) else options.path


def _holding(options: Options, edge: Edge, connection: Connection, helm: Helm, clock: Clock, by: Provenance) -> Holding:
    stage = f" {options.stage}" if options.command is Command.STAGE else ""
    lease = Lease(
        processes=edge.processes,
        connection=connection,
        release=options.release,
        identity=f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}",
        command=options.command.value + stage,
        by=by,
        on_lost=edge.processes.ask_to_end,
    )
    return Holding(
        lease=lease,
        helm=helm,
        clock=clock,
        report=edge.report,
        takes_over=options.command is Command.ROLLBACK,
        now=lambda: datetime.now(timezone.utc),
    )


def _helm(options: Options, edge: Edge, connection: Connection) -> Helm:
    source = ChartSource(chart=options.chart, version=options.chart_version, values=options.values, sets=options.set)
    return Helm(
        processes=edge.processes,
        connection=connection,
        release=options.release,
        source=source,
        folder=Path(edge.workspace),
        learn=_secrecy(options, edge).learn,
        timeout_s=options.timeout_s,
    )


def _secrecy(options: Options, edge: Edge) -> Secrecy:
    return Secrecy(mask=edge.mask, public=(options.release, options.namespace, options.tag, options.from_tag))


def _provenance(options: Options, environment: Mapping[str, str]) -> Provenance:
    """Who and which run, from what the CI platforms set; on a laptop the account."""
    server, repository = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    run = ""
    if server and repository and environment.get("GITHUB_RUN_ID"):
        run = f"{server}/{repository}/actions/runs/{environment['GITHUB_RUN_ID']}"
    elif environment.get("SYSTEM_COLLECTIONURI") and environment.get("BUILD_BUILDID"):
        project = environment.get("SYSTEM_TEAMPROJECT", "")
        run = f"{environment['SYSTEM_COLLECTIONURI']}{project}/_build/results?buildId={environment['BUILD_BUILDID']}"
    who = (
        environment.get("GITHUB_TRIGGERING_ACTOR")
        or environment.get("GITHUB_ACTOR")
        or environment.get("BUILD_REQUESTEDFOR")
        or _account()
    )
    return Provenance(
        who=who,
        run=run,
        approver=options.approved_by,
        comment=options.comment,
        at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=environment.get("GITHUB_SHA") or environment.get("BUILD_SOURCEVERSION") or "",
        chart=options.chart,
        chart_digest=chart_digest(options.chart, options.chart_version) if options.chart else "",
    )


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


# --- plan --------------------------------------------------------------------------------------------------------------


def _plan(options: Options, execution: Execution) -> Answer:
    rendered, facts = execution.reading.for_stage()
    return _plans(options, execution, rendered, facts.observed)


def _plans(options: Options, execution: Execution, rendered: Rendered, observed: Observed) -> Answer:
    """One stage, or all of them, each planned from what the one before will leave."""
    numbers = [options.stage] if options.stage else [stage.number for stage in stages_for(options.weights)]
    texts, bodies = [], []
    for number in numbers:
        made = make_plan(observed, execution.wanted_stage(rendered, number))
        if isinstance(made, Refusal):
            if len(numbers) == 1:
                raise RefusedError.of(made)
            texts.append(f"stage {number}: refused: {made.happened} {made.do_next}")
            bodies.append({"stage": number, "refused": made.happened})
            continue
        name = stages_for(options.weights)[number - 1]
        texts.append(f"stage {name}: {plan_text(made, _commands(execution, observed, made))}")
        bodies.append(
            {
                "stage": number,
                "result": made.result.value,
                "because": made.because,
                "notes": list(made.notes),
                "steps": [step_line(step) for step in made.steps],
                "commands": list(_commands(execution, observed, made).values()),
            }
        )
        observed = after(observed, made)
    return Answer(text="\n\n".join([*texts, _caveat(rendered)]), json=to_json({"plans": bodies}))


def _caveat(rendered: Rendered) -> str:
    unseen = "Callers without a sidecar reach both tracks through the Service, whatever the weights."
    return f"{unseen} The record goes to helm's standard input (`--values -`). Host: {rendered.shape.host}."


def _commands(execution: Execution, observed: Observed, plan: Plan) -> dict[int, str]:
    """Step index -> the Helm command as a person would type it; live replica counts as far as they can be foreseen."""
    found = {}
    for index, step in enumerate(plan.steps):
        if isinstance(step, Upgrade):
            filled = {
                track.value: replace(step.target(track), replicas=_replicas(observed, step, track)) for track in Track
            }
            whole = replace(step, production=filled["production"], canary=filled["canary"])
            found[index] = shown_command(execution.helm.command(whole))
            observed = after(observed, replace(plan, steps=(whole,)))
    return found


def _replicas(observed: Observed, step: Upgrade, track: Track) -> int:
    asked = step.target(track).replicas
    return observed.track(track).replicas if asked is None else asked


def _plan_without_cluster(options: Options, edge: Edge) -> Answer:
    """As if steady at `--from`: both versions are rendered by this chart, on this machine."""
    namespace = options.namespace or "default"
    options = replace(options, namespace=namespace)
    helm = _helm(options, edge, Connection(namespace=namespace))
    helm.check_version()
    helm.build_dependencies()
    target = render_fitting(helm.template, options.tag, namespace, all_moments=True)
    before = render_fitting(helm.template, options.from_tag, namespace, all_moments=False)
    count = max(before.replica_count, 1)
    observed = Observed(
        installed=True,
        revision=1,
        written_replicas=count,
        production=TrackState(version=before.version, replicas=count, pods=count, ready=count),
        canary=TrackState(version=before.version),
        asked=ALL_PRODUCTION,
    )
    _, execution, _ = _wire(options, edge)
    return _plans(options, execution, target, observed)


# --- status and verify -------------------------------------------------------------------------------------------------


def _status(execution: Execution) -> Answer:
    facts = execution.reading.for_rollback()
    in_force, proof = execution.reading.in_force(facts.observed.asked)
    values = status_values(facts.observed, in_force, proof)
    return Answer(text=status_text(values), json=to_json(values))


def _verify(options: Options, execution: Execution, requests: Requests) -> Answer:
    facts = execution.reading.for_rollback()
    asked = {track.value: facts.observed.asked.of(track) for track in Track} if facts.observed.asked else {}
    said = judge(requests.send(options.requests), asked)
    text = "\n".join(f"{key:<11} {json.dumps(value)}" for key, value in said.items())
    return Answer(text=text, json=to_json({"result": "done", **said}))
