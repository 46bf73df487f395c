"""`covergate verifications`: see them, say why one waits, ask again, resolve, cancel; one, or all that match the list's filters.

Acts on the database of this machine's gateway and shows no PHI. What matches filters is done by a worker, as a bulk job.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from covergate.access.caller import Caller
    from covergate.gateway import Gateway
    from covergate.verifications.bulk_jobs import BulkOrder
    from covergate.verifications.queries import Filters

app = typer.Typer(help="Verifications of all tenants, without PHI.", no_args_is_help=True)

PROGRESS_SECONDS = 0.5
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MOMENT = "30m, 12h or 7d ago, a date, or an instant."
_COLUMNS = ("id", "tenant", "mode", "status", "how", "vendor", "external id", "created (UTC)")
_Brings = TypeVar("_Brings")

_Ids = Annotated[list[str] | None, typer.Argument(metavar="[VERIFICATION_ID]...", show_default=False)]
OneId = Annotated[str, typer.Argument(metavar="VERIFICATION_ID")]
_Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this one's: its name or id.")]
InMode = Annotated[Literal["test", "live"] | None, typer.Option("--mode", help="Only in this one.")]
InJson = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without it what matches is only counted.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end, or leave it to the worker.")]

_FILTERS: dict[str, Any] = {
    "status": Annotated[list[str] | None, typer.Option(help="May be given several times.")],
    "outcome": Annotated[str | None, typer.Option(help="How it ended.")],
    "vendor": Annotated[str | None, typer.Option(help="The vendor asked last.")],
    "failure_code": Annotated[str | None, typer.Option(help="Why it failed.")],
    "waiting_for": Annotated[str | None, typer.Option(help="What it waits for: vendor, hold, operator, …")],
    "payer_id": Annotated[str | None, typer.Option(help="The electronic id.")],
    "external_id": Annotated[str | None, typer.Option(help="As it was sent.")],
    "family": Annotated[str | None, typer.Option(help="A verification's id: it and the retries of its question.")],
    "created_after": Annotated[str | None, typer.Option(help=_MOMENT)],
    "created_before": Annotated[str | None, typer.Option(help=_MOMENT)],
    "completed_after": Annotated[str | None, typer.Option(help=_MOMENT)],
}
"""The options of whatever takes the list's filters."""


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the filters as options of its own; it takes them as one, `filters`."""
    known = get_type_hints(command, localns={"Filters": Any}, include_extras=True)
    hints = {name: hint for name, hint in known.items() if name != "filters"}
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "filters"]
    of_filters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in _FILTERS.items()
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in _FILTERS}
        command(**given, filters=_filters({name: value for name, value in asked.items() if value}))

    keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in own]
    run.__signature__ = inspect.Signature([*keyword, *of_filters])  # type: ignore[attr-defined]
    run.__annotations__ = {**hints, **_FILTERS}
    del run.__wrapped__
    return run


@app.command(
    "list",
    epilog="Examples: covergate verifications list --waiting-for operator --- covergate verifications list --status failed"
    " --completed-after 8h --failure-code payer_unavailable --tenant 'Clinic North' --json",
)
@filtered
def list_found(
    filters: Filters,
    tenant: _Tenant = None,
    mode: InMode = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: InJson = False,
) -> None:
    """List verifications, the newest first. JSON is a line for each."""
    from covergate.verifications.queries import list_facts

    async def run(gateway: Gateway, caller: Caller) -> list[dict[str, Any]]:
        return await list_facts(gateway, caller, filters, limit)

    _show(_run(tenant, mode, run), as_json=as_json)


@app.command("show", epilog="Example: covergate verifications show ver_… --json")
def show_one(verification_id: OneId, as_json: InJson = False) -> None:
    """Show one: where it stands, its attempts and its timeline. PHI is not shown."""
    shown, timeline, _ = _run(None, None, lambda gateway, caller: _read(gateway, caller, verification_id))
    if as_json:
        _print_json({**shown, "timeline": timeline})
        return
    names = ("id", "mode", "external_id", "status", "outcome", "outcome_reason", "vendor", "retry_of", "reused_from")
    for name in (*names, "created_at", "deadline", "completed_at"):
        if shown[name] is not None:
            typer.echo(f"{name:<16}{shown[name]}")
    if shown["failure"] is not None:
        typer.echo(f"{'failure':<16}{shown['failure']['code']}: {shown['failure']['message']}")
    for attempt in shown["attempts"]:
        told = (attempt[name] for name in ("id", "vendor", "state", "vendor_ref", "failure_code") if attempt[name])
        typer.echo(f"{'attempt':<16}{'  '.join(told)}")
    for row in timeline:
        typer.echo(f"{row['at']}  {row['type']:<22}{row['message']}")


@app.command("why", epilog="Example: covergate verifications why ver_…")
def say_why(verification_id: OneId) -> None:
    """Say in one sentence what it waits for, when it is looked at again, when it ends, and what you can do."""
    from covergate.verifications.waiting import sentence_of

    shown, timeline, scopes = _run(None, None, lambda gateway, caller: _read(gateway, caller, verification_id))
    parts = sentence_of(shown, timeline[-1]["type"] if timeline else None, datetime.now(UTC), scopes)
    said = "".join(one if isinstance(one, str) else f"{one:%Y-%m-%d %H:%M:%S} UTC" for one in parts)
    typer.echo(said)


@app.command(
    "retry",
    epilog="Examples: covergate verifications retry ver_… --correct /patient/member_id=W123 --- covergate verifications retry"
    " --failure-code payer_unavailable --completed-after 8h --yes",
)
@filtered
def retry(
    filters: Filters,
    verification_ids: _Ids = None,
    correct: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POINTER=VALUE", help="/patient/member_id=W123; a value may be JSON. May be given several times."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was asked again before, at another fee.")] = False,
    tenant: _Tenant = None,
    mode: InMode = None,
    yes: Yes = False,
    wait: Wait = True,
    as_json: InJson = False,
) -> None:
    """Ask ended ones again, at the vendor's price: these, or all that match. Prints the ids of the new ones, or the report."""
    from covergate.states import BulkAction
    from covergate.verifications.bulk_jobs import BulkOrder

    corrections = _corrections(correct or [])
    if verification_ids:
        _exclusive(filters)
        action = partial(_retry_one, corrections)
        _each(tenant, mode, verification_ids, action)
        return
    _bulk(tenant, mode, BulkOrder(BulkAction.RESUBMIT, filters, corrections, None, again), (yes, wait, as_json))


@app.command(
    "resolve",
    epilog="Examples: covergate verifications resolve ver_… --found 7c9e6679 --- covergate verifications resolve"
    " --waiting-for operator --vendor integrex --decide give_up --yes",
)
@filtered
def resolve_found(
    filters: Filters,
    verification_ids: _Ids = None,
    decide: Annotated[
        Literal["resubmit", "give_up"] | None,
        typer.Option(help="resubmit: at the vendor's price; give_up: it fails with submission_unknown."),
    ] = None,
    found: Annotated[str | None, typer.Option(metavar="REFERENCE", help="The vendor has it under this.")] = None,
    tenant: _Tenant = None,
    mode: InMode = None,
    yes: Yes = False,
    wait: Wait = True,
    as_json: InJson = False,
) -> None:
    """Decide on submissions of unknown fate: these, or all that match."""
    from covergate.states import BulkAction
    from covergate.verifications.bulk_jobs import BulkOrder
    from covergate.verifications.operator import Resolution, resolve

    if (decide is None) == (found is None):
        raise ConfigurationError("give --decide or --found")
    if found is not None and len(verification_ids or ()) != 1:
        raise ConfigurationError("--found is for one verification")
    if verification_ids:
        _exclusive(filters)
        resolution = Resolution.FOUND if decide is None else Resolution(decide)

        async def one(gateway: Gateway, caller: Caller, id_: str) -> str:
            await resolve(gateway, caller, id_, resolution, found)
            return id_

        _each(tenant, mode, verification_ids, one)
        return
    order = BulkOrder(BulkAction.RESOLVE, filters, {}, Resolution(decide or ""))
    _bulk(tenant, mode, order, (yes, wait, as_json))


@app.command(
    "cancel",
    epilog="Examples: covergate verifications cancel ver_… --- covergate verifications cancel --waiting-for hold --vendor vsee"
    " --yes",
)
@filtered
def cancel_found(
    filters: Filters,
    verification_ids: _Ids = None,
    tenant: _Tenant = None,
    mode: InMode = None,
    yes: Yes = False,
    wait: Wait = True,
    as_json: InJson = False,
) -> None:
    """Cancel open ones: these, or all that match. The vendor's work is not recalled."""
    from covergate.states import BulkAction
    from covergate.verifications.bulk_jobs import BulkOrder
    from covergate.verifications.cancel import cancel

    async def one(gateway: Gateway, caller: Caller, id_: str) -> str:
        await cancel(gateway, caller, id_)
        return id_

    if verification_ids:
        _exclusive(filters)
        _each(tenant, mode, verification_ids, one)
        return
    _bulk(tenant, mode, BulkOrder(BulkAction.CANCEL, filters), (yes, wait, as_json))


@app.command("look", epilog="Example: covergate verifications look ver_…")
def look(verification_ids: Annotated[list[str], typer.Argument(metavar="VERIFICATION_ID...")]) -> None:
    """Have these looked at now, which wait for their vendor's answer. Nothing is submitted by it."""
    from covergate.verifications.look_now import look_now

    async def one(gateway: Gateway, caller: Caller, id_: str) -> str:
        if not await look_now(gateway, caller, id_):
            raise Problem("invalid_request", "it does not wait for its vendor's answer")
        return id_

    _each(None, None, verification_ids, one)


@app.command("job", epilog="Example: covergate verifications job job_… --stop")
def show_job(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID")],
    stop: Annotated[bool, typer.Option("--stop", help="Stop it; what was done stays done.")] = False,
    as_json: InJson = False,
) -> None:
    """Show how far a bulk job is, or stop it."""
    from covergate.verifications.bulk_jobs import read_job, stop_job

    _report(
        _run(None, None, lambda gateway, caller: (stop_job if stop else read_job)(gateway, caller, job_id)), as_json
    )


# --- one by one ------------------------------------------------------------------------------------------------------


async def _read(
    gateway: Gateway, caller: Caller, verification_id: str
) -> tuple[dict[str, Any], list[dict[str, Any]], frozenset[str]]:
    from covergate.verifications.queries import read_one, read_timeline

    shown = await read_one(gateway, caller, verification_id)
    rows: list[dict[str, Any]] = []
    after = 0
    while True:
        page = await read_timeline(gateway, caller, verification_id, after, 1000)
        rows += page.data
        if page.next_after is None:
            return shown, rows, caller.scopes
        after = int(page.next_after)


async def _retry_one(corrections: Mapping[str, Any], gateway: Gateway, caller: Caller, id_: str) -> str:
    from covergate.access.vendor_accounts import refresh_accounts
    from covergate.api.http import parsed
    from covergate.payers.directory import DirectoryCache
    from covergate.verifications.create import Acceptance
    from covergate.verifications.request import CreateVerification
    from covergate.verifications.resubmit import resubmit

    if not gateway.accounts.loaded:
        await refresh_accounts(gateway)
    read = partial(parsed, CreateVerification)
    created = await resubmit(Acceptance(gateway), DirectoryCache(gateway), caller, id_, corrections, read=read)
    return created.id


def _each(
    tenant: str | None,
    mode: str | None,
    ids: Sequence[str],
    action: Callable[[Gateway, Caller, str], Awaitable[str]],
) -> None:
    """Prints what each brings; 1 if one could not be done."""

    async def run(gateway: Gateway, caller: Caller) -> bool:
        well = True
        for id_ in ids:
            try:
                typer.echo(await action(gateway, caller, id_))
            except Problem as problem:
                well = False
                _say(f"{id_}: {_told(problem)}")
        return well

    if not _run(tenant, mode, run):
        raise typer.Exit(1)


def _exclusive(filters: Filters) -> None:
    from covergate.verifications.queries import Filters as NoFilters

    if filters != NoFilters():
        raise ConfigurationError("give ids or filters, not both")


# --- many ------------------------------------------------------------------------------------------------------------


def _bulk(tenant: str | None, mode: str | None, order: BulkOrder, how: tuple[bool, bool, bool]) -> None:
    yes, wait, as_json = how
    from covergate.verifications.bulk_jobs import make_job, read_job

    async def run(gateway: Gateway, caller: Caller) -> dict[str, Any]:
        job = await make_job(gateway, caller, order, dry_run=not yes)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not yes or not wait or as_json,
        ) as progress:
            task = progress.add_task(f"{order.action} ({job['id']})", total=job["matched"])
            while yes and wait and job["ended_at"] is None:
                await asyncio.sleep(PROGRESS_SECONDS)
                job = await read_job(gateway, caller, job["id"])
                progress.update(task, completed=job["matched"] - job["left"])
        return job

    job = _run(tenant, mode, run)
    _report(job, as_json)
    if not yes and not as_json:
        _say("nothing was done: --yes does it")


def _report(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(job)
    else:
        typer.echo(f"{job['id']}\t{job['status']}\tmatched {job['matched']}\tdone {job['done']}\tleft {job['left']}")
        for outcome in ("skipped", "failed"):
            for one in job[outcome]["reasons"]:
                typer.echo(f"{outcome}\t{one['reason']}\t{one['count']}\t{' '.join(one['sample'][:3])}")
        if job["dry_run"]:
            _show(job["sample"], as_json=False)
    if job["failed"]["count"] or (job["status"] == "canceled" and job["left"]):
        raise typer.Exit(1)


# --- what is given and shown -----------------------------------------------------------------------------------------


def _filters(given: Mapping[str, Any]) -> Filters:
    from covergate.eligibility.failure import FailureCode
    from covergate.eligibility.terms import Outcome
    from covergate.states import Status, WaitingFor
    from covergate.vendors import VENDORS
    from covergate.verifications.queries import Filters

    words: dict[str, Sequence[str]] = {
        "status": tuple(Status),
        "outcome": tuple(Outcome),
        "failure_code": tuple(FailureCode),
        "waiting_for": tuple(WaitingFor),
        "vendor": tuple(VENDORS),
    }
    asked = dict(given)
    for name, known in words.items():
        values = asked.get(name) or ()
        if any(value not in known for value in ([values] if isinstance(values, str) else values)):
            raise ConfigurationError(f"--{name.replace('_', '-')} is one of: {', '.join(known)}")
    for name in ("created_after", "created_before", "completed_after"):
        if name in asked:
            asked[name] = _moment(asked[name])
    if "status" in asked:
        asked["status"] = tuple(asked["status"])
    return Filters(**asked)


def _moment(given: str) -> datetime:
    try:
        if given[-1:] in _UNITS and given[:-1].isdigit():
            moment = datetime.now(UTC) - timedelta(**{_UNITS[given[-1]]: int(given[:-1])})
        else:
            moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"a time is {_MOMENT}") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _corrections(given: Sequence[str]) -> dict[str, Any]:
    """JSON, or else text."""
    corrections: dict[str, Any] = {}
    for one in given:
        at, equals, value = one.partition("=")
        if not equals or not at.startswith("/"):
            raise ConfigurationError("--correct is POINTER=VALUE, e.g. /patient/member_id=W123")
        try:
            read = orjson.loads(value)
        except orjson.JSONDecodeError:
            read = value
        # A member id of digits is text, too.
        corrections[at] = value if isinstance(read, int | float) and not isinstance(read, bool) else read
    return corrections


def _show(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """A table for people, lines with tabs for programs."""
    if as_json:
        for row in rows:
            typer.echo(orjson.dumps(dict(row)).decode())
        return
    console = Console()
    if console.is_terminal and rows:
        table = Table(*_COLUMNS)
        for row in rows:
            table.add_row(*_row(row))
        console.print(table)
        return
    for row in rows:
        typer.echo("\t".join(_row(row)))


def _row(row: Mapping[str, Any]) -> list[str]:
    how = row["failure_code"] or row["outcome"] or row["waiting_for"] or "–"
    told = [row["id"], row["tenant"], row["mode"], row["status"], how, row["vendor"], row["external_id"] or "–"]
    return [*told, row["created_at"][:16].replace("T", " ")]


def _print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _run(tenant: str | None, mode: str | None, action: Callable[[Gateway, Caller], Awaitable[_Brings]]) -> _Brings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    from covergate import startup
    from covergate.access.audit import command_line
    from covergate.access.caller import Caller, CallerKind
    from covergate.access.operators import find_tenant

    async def run() -> _Brings:
        async with startup.opened(settings, 3, "covergate verifications") as gateway:
            tenant_id = None
            if tenant is not None:
                async with gateway.connection() as db:
                    tenant_id = await find_tenant(db, tenant)
                if tenant_id is None:
                    raise ConfigurationError("there is no such tenant: see `covergate tenants list`")
            scopes = frozenset({"operations", "verifications:read", "verifications:write", "webhooks:manage"})
            name = command_line().id or ""
            return await action(gateway, Caller(tenant_id, mode, name, scopes, kind=CallerKind.CLI))

    try:
        return startup.run(run())
    except Problem as problem:
        raise ConfigurationError(_told(problem)) from None


def _told(problem: Problem) -> str:
    lines = [f"{error.pointer or error.parameter}: {error.message}" for error in problem.errors]
    return "; ".join(lines) or problem.detail


def _say(what: str) -> None:
    logs.drain()  # this is the last line
    typer.echo(f"covergate: {what}", err=True)
