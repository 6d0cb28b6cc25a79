"""The web site: it queues counts, tells how far they are, and waits for their results."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from alligator.constants import CANCELED, FAILED, SUCCESS
from alligator.exceptions import ConnectionLost, ResultTimeout, TaskCanceled, TaskFailed
from alligator.web import Dashboard
from primes.tasks import count_primes, gator
from primes.worker_thread import WorkerThread

PAGE = Path(__file__).with_name("index.html")

options = gator.options(save_results=3600, timeout=300)


class Order(BaseModel):
    """What a visitor asks for."""

    limit: int = Field(ge=2, le=1_000_000_000)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run a worker meanwhile, if PRIMES_WORKER is set, and close the Gator at the end."""
    worker = WorkerThread(gator) if os.environ.get("PRIMES_WORKER") else None
    if worker is not None:
        worker.start()
    yield
    if worker is not None:
        await asyncio.to_thread(worker.stop)
    await gator.aclose()


app = FastAPI(title="Prime numbers", lifespan=lifespan)
app.mount("/queues", Dashboard(gator).asgi)  # read-only


@app.exception_handler(ConnectionLost)
async def answer_busy(request: Request, error: ConnectionLost) -> JSONResponse:
    """Answer where the queue cannot be reached."""
    return JSONResponse({"detail": "Please try again."}, 503, {"Retry-After": "5"})


@app.get("/", include_in_schema=False)
async def show_page() -> FileResponse:
    """Show the page for visitors."""
    return FileResponse(PAGE)


@app.post("/counts", status_code=202)
async def start_count(order: Order, response: Response) -> dict[str, str]:
    """Leave a count to a worker, and answer at once."""
    task = await options.atask(count_primes, order.limit)
    response.headers["Location"] = f"/counts/{task.task_id}"
    return {"id": task.task_id}


@app.get("/counts/{task_id}")
async def tell_state(task_id: str) -> dict[str, Any]:
    """Tell how a count stands now."""
    status = await gator.astatus(task_id)
    if status is None:
        raise HTTPException(404, "There is no such count, or its result is gone.")
    fraction, text = await gator.aprogress(task_id) or (0.0, "")
    return {"ended": status in (SUCCESS, FAILED, CANCELED), "fraction": fraction, "text": text}


@app.get("/counts/{task_id}/result")
async def tell_result(
    task_id: str, response: Response, wait: Annotated[float, Query(ge=0, le=60)] = 10
) -> dict[str, Any]:
    """Wait for the result, which takes no thread; answer 202 if it is not there in time."""
    await tell_state(task_id)
    try:
        return {"primes": await gator.aresult(task_id, timeout=wait)}
    except ResultTimeout:
        response.status_code = 202
        return {"primes": None}
    except TaskCanceled:
        raise HTTPException(410, "The count was canceled.") from None
    except TaskFailed as err:
        raise HTTPException(500, err.error) from err


@app.get("/counts/{task_id}/events", response_class=EventSourceResponse)
async def follow(task_id: str) -> AsyncIterator[ServerSentEvent]:
    """Send each change of a count, by its state, and at last the result."""
    async for event in gator.aevents(task_id):
        data: dict[str, Any] = {"fraction": event.fraction, "text": event.text}
        if event.status == SUCCESS:
            data["primes"] = await gator.aresult(task_id)
        yield ServerSentEvent(event=event.state, data=data)


@app.delete("/counts/{task_id}", status_code=204)
async def cancel(task_id: str) -> None:
    """Cancel a count, also one that runs."""
    await tell_state(task_id)
    await gator.acancel(task_id, running=True)
