"""Floor 1: a FastAPI route with the gateway's own body model and one INSERT by asyncpg. No key, no sealing, no job."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from fastapi import FastAPI

from covergate import ids
from covergate.verifications.request import CreateVerification

TABLE = "CREATE TABLE IF NOT EXISTS floor_accepted (id text PRIMARY KEY, body text NOT NULL)"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["FLOOR_DATABASE_URL"], min_size=10, max_size=10) as pool:
        await pool.execute(TABLE)
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/verifications", status_code=202)
async def accept(body: CreateVerification) -> dict[str, str]:
    id_ = ids.new(ids.VERIFICATION)
    await app.state.pool.execute("INSERT INTO floor_accepted VALUES ($1, $2)", id_, body.model_dump_json())
    return {"id": id_}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
