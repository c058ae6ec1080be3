"""A gateway before a model that runs on this machine, limited for each API key.

    limiter deploy gateway
    uvicorn app:app --app-dir examples/gateway

`POST /run` answers when the work is done. `POST /run/async` answers at once, with a job id; `GET /status/{job_id}` says
what became of it. Both take one request and `max_tokens` tokens, of which the unused ones come back, and all if the work fails.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from jobs import JobManager
from limits import caller, limiter, sync_limiter
from pydantic import BaseModel, Field
from runner import PromptRejected, run

from limiter.contrib.fastapi import install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JOB_THREADS = 4
MODEL = "model"

Waiter = Annotated[str, Depends(caller)]


class Prompt(BaseModel):
    """What the model is asked, and how long its answer may be."""

    prompt: str = Field(min_length=1, max_length=100_000)
    max_tokens: int = Field(default=100, ge=1, le=1_000_000)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the sync limiter, and at the end cancel the jobs that have not ended; `install` opens the other limiter."""
    manager = app.state.jobs = JobManager(JOB_THREADS)
    with sync_limiter:
        yield
        await manager.close()


app = FastAPI(title="gateway", lifespan=lifespan)
install(app, limiter)  # Responds to refused requests: 429, 413 or 503.


@app.post("/run")
def run_now(prompt: Prompt, entity: Waiter) -> dict[str, Any]:
    """Work in this request. A plain `def` runs in a thread, so it uses the sync limiter."""
    amounts = {"requests": 1, "tokens": prompt.max_tokens}
    try:
        with sync_limiter.acquire(entity, MODEL, amounts) as lease:
            words = run(prompt.prompt, prompt.max_tokens)
            lease.adjust(tokens=len(words) - prompt.max_tokens)
    except PromptRejected as error:
        raise HTTPException(422, str(error)) from error
    return {"result": words, "tokens": len(words)}


@app.post("/run/async", status_code=202)
async def run_later(prompt: Prompt, entity: Waiter) -> dict[str, str]:
    """Queue the work. An `async def` runs in the event loop, so it uses the async limiter."""
    amounts = {"requests": 1, "tokens": prompt.max_tokens}
    work = partial(run, prompt.prompt, prompt.max_tokens)
    job = await app.state.jobs.submit(entity, limiter.acquire(entity, MODEL, amounts), prompt.max_tokens, work)
    return {"job_id": job.job_id}


@app.get("/status/{job_id}")
async def status(job_id: str, entity: Waiter) -> dict[str, Any]:
    """Return the state of one of the caller's own jobs."""
    job = app.state.jobs.get(job_id, entity)
    if job is None:
        raise HTTPException(404, "there is no such job")
    return {name: value for name, value in asdict(job).items() if name != "owner" and value is not None}
