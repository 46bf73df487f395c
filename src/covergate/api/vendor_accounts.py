"""`/v1/vendor-accounts`: the tenant's own accounts at vendors, one per mode. Credentials go in and never come out."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from covergate.access.vendor_accounts import (
    Owner,
    list_accounts,
    put_account,
    read_account,
    remove_account,
)
from covergate.api import examples, schemas
from covergate.api.deps import AccountManager, GatewayOf, NoQuery, limits_of
from covergate.api.describe import Described, documented
from covergate.api.http import NoBody, json_answer, json_body
from covergate.api.pages import PageQuery, listed, position
from covergate.db.page import page
from covergate.states import Environment
from covergate.transport.transport import Transport
from covergate.vendors import VENDORS
from covergate.verifications.operator import prove_account
from covergate.verifications.sweep import wake_refused

router = APIRouter(tags=["Vendors"])

CredentialText = Annotated[str, Field(max_length=1000)]


class PutVendorAccount(BaseModel):
    """`credentials` has the fields of the vendor's connection (docs/vendors), and replaces all that was there."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    environment: Environment | None = Field(
        default=None, description="The one of the key's mode: `sandbox` for test, `production` for live"
    )
    credentials: Annotated[
        dict[Annotated[str, Field(max_length=40)], CredentialText],
        Field(max_length=20, description="Field → value; never shown again"),
    ]


@router.get(
    "/v1/vendor-accounts",
    **documented(
        "list_vendor_accounts",
        "List the tenant's vendor accounts",
        "Those of the key's mode. A vendor that is not among them is asked on the gateway's account, if that is shared:"
        " `account` in `GET /v1/vendors` says whose it is.",
        answers={200: Described("A page", schemas.VendorAccountList, examples.VENDOR_ACCOUNT_PAGE)},
        problems=(400, 422),
    ),
)
async def get_vendor_accounts(
    gateway: GatewayOf, caller: AccountManager, query: Annotated[PageQuery, Query()]
) -> Response:
    after = position(query.after, lambda name: name in VENDORS)
    rows = [row for row in await list_accounts(gateway, caller.tenant_id, caller.mode) if row["vendor"] > (after or "")]
    return json_answer(listed(page(rows, query.limit, lambda row: str(row["vendor"]), _itself)))


@router.get(
    "/v1/vendor-accounts/{vendor}",
    **documented(
        "read_vendor_account",
        "Read a vendor account",
        "Without its credentials.",
        answers={200: Described("The account", schemas.VendorAccountShown, examples.VENDOR_ACCOUNT)},
        problems=(404, 422),
    ),
)
async def read_vendor_account(gateway: GatewayOf, caller: AccountManager, _: NoQuery, vendor: str) -> Response:
    return json_answer(await read_account(gateway, Owner(caller.tenant_id, caller.mode, vendor)))


@router.put(
    "/v1/vendor-accounts/{vendor}",
    **documented(
        "put_vendor_account",
        "Put a vendor account in",
        "New verifications of the tenant use it from now on. If there is one, its credentials are replaced: what was begun"
        " with it goes on with the new ones. To move to another organization's account, remove the old one first.",
        body=(PutVendorAccount, examples.PUT_VENDOR_ACCOUNT),
        answers={
            200: Described("Replaced", schemas.VendorAccountShown, examples.NEW_VENDOR_ACCOUNT),
            201: Described("Put in", schemas.VendorAccountShown, examples.NEW_VENDOR_ACCOUNT, ("Location",)),
        },
        problems=(404, 413, 415, 422),
    ),
)
async def put_vendor_account(
    request: Request,
    gateway: GatewayOf,
    caller: AccountManager,
    _: NoQuery,
    body: Annotated[PutVendorAccount, Depends(json_body(PutVendorAccount))],
    vendor: str,
) -> Response:
    limits_of(request).account_change(caller.tenant_id)
    owner = Owner(caller.tenant_id, caller.mode, vendor)
    shown, is_new = await put_account(gateway, owner, body.environment, body.credentials, caller)
    if is_new:
        return json_answer(shown, 201, {"location": f"/v1/vendor-accounts/{vendor}"})
    await wake_refused(gateway, shown["id"])
    return json_answer(shown)


@router.delete(
    "/v1/vendor-accounts/{vendor}",
    status_code=204,
    **documented(
        "remove_vendor_account",
        "Remove a vendor account",
        "For good: its credentials are deleted, its `events_url` is refused, and what is open under it goes to the next"
        " vendor of its route, or fails with `vendor_auth_failed`, at its next step.",
        answers={204: Described("Removed")},
        problems=(404, 413, 415, 422),
    ),
)
async def remove_vendor_account(
    request: Request, gateway: GatewayOf, caller: AccountManager, _: NoQuery, __: NoBody, vendor: str
) -> Response:
    limits_of(request).account_change(caller.tenant_id)
    await remove_account(gateway, Owner(caller.tenant_id, caller.mode, vendor), caller)
    return Response(status_code=204)


@router.post(
    "/v1/vendor-accounts/{vendor}/test",
    **documented(
        "test_vendor_account",
        "Test a vendor account",
        "Makes one call that commits nothing and concerns no patient. `message` says what came back; `state` changes only if"
        " the vendor took or refused the credentials.",
        answers={200: Described("The account", schemas.TestedVendorAccount, examples.TESTED_VENDOR_ACCOUNT)},
        problems=(404, 413, 415, 422),
    ),
)
async def verify_vendor_account(
    request: Request, gateway: GatewayOf, caller: AccountManager, _: NoQuery, __: NoBody, vendor: str
) -> Response:
    limits_of(request).account_change(caller.tenant_id)
    transport = cast(Transport, request.app.state.transport)
    owner = Owner(caller.tenant_id, caller.mode, vendor)
    return json_answer(await prove_account(gateway, transport, owner, caller))


def _itself(row: dict[str, Any]) -> dict[str, Any]:
    return row
