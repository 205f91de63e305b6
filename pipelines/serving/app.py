"""The service on HTTP: FastAPI over `Service`, one set of routes a case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel

from pipelines.serving import problems
from pipelines.serving.gather import Gathered
from pipelines.serving.keys import Keys
from pipelines.serving.ladder import Trial
from pipelines.serving.limits import BodyLimit
from pipelines.serving.metrics import Metrics
from pipelines.serving.service import Service
from pipelines.serving.wire import CollectedOut, DecisionOut, actions_model

_log = logging.getLogger(__name__)


def make_app(services: Mapping[str, Service], keys: Keys, *, refresh_seconds: float = 2.0) -> FastAPI:
    """Serve systems; a new champion is looked for every `refresh_seconds`."""
    metrics = Metrics(services)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(_follow(services, refresh_seconds))
        yield
        following.cancel()

    app = FastAPI(
        title="ML Loops", version="1", lifespan=lifespan, description="Answers, and what came of them."
    )
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(metrics.watch)
    for name, service in services.items():
        app.include_router(_routes(name, service, keys))

    @app.get("/healthz", summary="Is the process alive?", tags=["service"])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Can it answer?", tags=["service"], responses=problems.responses((503,)))
    async def readyz() -> dict[str, Any]:
        failing = [name for name, each in services.items() if each.failing]
        if failing:
            raise problems.ProblemError(503, "the action log takes nothing just now", systems=failing)
        return {"status": "ok", "systems": {name: each.state.first.policy for name, each in services.items()}}

    @app.get("/metrics", summary="For Prometheus", tags=["service"], response_class=Response)
    async def measured() -> Response:
        return Response(metrics.render(), media_type=metrics.media)

    app.openapi = partial(problems.documented, app, keys.schemes)  # type: ignore[method-assign]
    return app


def _routes(name: str, service: Service, keys: Keys) -> APIRouter:
    router = APIRouter(prefix=f"/v1/{name}", tags=[name])
    decide_model, batch_model = service.serving.request, actions_model(name, service.serving)
    collected = Gathered(service.collect_all)

    async def decide(body: BaseModel) -> Response:
        return _reply(DecisionOut.of((await run_sync(service.decide, [body]))[0]))

    async def collect(body: BaseModel, request: Request) -> Response:
        came = {"address": service.address(request.client.host if request.client else None)}
        sent = [each.model_dump() | came for each in body.actions]  # type: ignore[attr-defined]
        return _reply(CollectedOut.of(await collected.ask(sent)))

    async def describe() -> dict[str, Any]:
        return _describe(service)

    # FastAPI reads the body's model from the annotation, which differs by case.
    decide.__annotations__["body"], collect.__annotations__["body"] = decide_model, batch_model
    known = problems.responses((400, 401, 403, 413, 422, 500, 503, 507))
    for path, answer, response, scope, summary in (
        ("/decide", decide, DecisionOut, "decide", "Answer a request"),
        ("/actions", collect, CollectedOut, "collect", "Take in actions"),
    ):
        router.add_api_route(
            path,
            answer,
            methods=["POST"],
            response_model=response,
            responses=known,
            route_class_override=keys.guard(scope),
            openapi_extra=keys.security,
            summary=summary,
            operation_id=f"{name}_{path[1:]}",
        )
    router.add_api_route(
        "",
        describe,
        methods=["GET"],
        responses=problems.responses((401, 403, 500)),
        route_class_override=keys.guard("admin"),
        openapi_extra=keys.security,
        summary="What answers now",
        operation_id=f"{name}_describe",
    )
    return router


def _reply(found: BaseModel) -> Response:
    """Write what was validated as it was made: FastAPI would validate it a second time."""
    return Response(found.model_dump_json(), media_type="application/json")


def _describe(service: Service) -> dict[str, Any]:
    state = service.state
    return {
        "case": service.case.name,
        "policy": state.first.policy,
        "model_version": state.first.version,
        "model_digest": state.first.digest,
        "features_as_of": state.stock.moment.isoformat(),
        "experiment": _trial(state.trial),
        "problems": list(state.problems),
        "counts": dict(service.counts),
    }


def _trial(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {"challenger": trial.running.challenger.number, "stage": trial.running.stage}


async def _follow(services: Mapping[str, Service], seconds: float) -> None:
    """Look for new champions and features; what fails is told and tried again."""
    while True:
        await asyncio.sleep(seconds)
        for name, service in services.items():
            try:
                if await run_sync(service.refresh):
                    _log.info("%s: version %s answers now", name, service.state.first.version)
            except Exception:
                _log.exception("%s: could not be refreshed; what stood serves on", name)
