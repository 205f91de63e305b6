"""Errors on the wire: problem details (RFC 9457), one shape for every failure.

What a caller cannot mend is told in general words, and in the service's own log in full: paths and causes
are nobody's business outside.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from pipelines.errors import LoopError
from pipelines.serving.service import UnfitError
from pipelines.stores.action_log import LogFull

_log = logging.getLogger(__name__)

MEDIA = "application/problem+json"
DESCRIBED = {
    400: "not JSON",
    401: "no key",
    403: "another key",
    413: "too large",
    422: "invalid",
    500: "a fault of the service",
    503: "not now",
    507: "the log is full",
}
"""What may come back instead of an answer."""
_MOST_ERRORS, _LONGEST = 20, 200
_NOT_NOW = "this cannot be answered just now: nothing of it was acknowledged; send it again in a moment"
_FULL = "the disk of the action log is full: nothing of this was taken; send it again later"


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    reason: str


class Problem(BaseModel):
    """Problem details (RFC 9457); `errors` where fields are wrong, the first ones of them."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class ProblemError(LoopError):
    """A failure with a status of its own; `fields` are members that its type adds."""

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.headers, self.fields = status, headers, fields


def answer(status: int, detail: str, headers: dict[str, str] | None = None, **fields: Any) -> JSONResponse:
    """Make a problem's response; its title is the status's own phrase."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse({**content, **fields}, status, headers, media_type=MEDIA)


def install(app: FastAPI) -> None:
    """Let every error that leaves a route become a problem."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, error: ProblemError) -> JSONResponse:
        return answer(error.status, str(error), error.headers, **error.fields)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = _errors(error.errors())
        first = errors[0] if errors else {"field": "body", "reason": "invalid"}
        return answer(422, f"{first['field']}: {first['reason']}", errors=errors)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        detail = str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND:
            detail = f"nothing is served at {_sendable(request.url.path)}: /openapi.json lists what is"
        return answer(error.status_code, detail, dict(error.headers or {}))

    @app.exception_handler(UnfitError)
    async def _unfit(_: Request, error: UnfitError) -> JSONResponse:
        return answer(422, str(error))

    @app.exception_handler(LoopError)
    async def _loop(_: Request, error: LoopError) -> JSONResponse:
        _log.error("%s", error)
        full = isinstance(error, LogFull)
        return answer(507 if full else 503, _FULL if full else _NOT_NOW, {"Retry-After": "1"})

    @app.exception_handler(Exception)
    async def _fault(_: Request, error: Exception) -> JSONResponse:
        # Starlette raises it again once this is sent, and the server logs it whole.
        return answer(500, "a fault of the service, not of what was sent: its log tells more")


def documented(app: FastAPI, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Make the OpenAPI document, with the one schema of all problems, and the kinds of `keys` that are asked for."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        components = document.setdefault("components", {})
        if keys:
            components["securitySchemes"] = dict(keys)
        schemas = components.setdefault("schemas", {})
        made = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= made.pop("$defs") | {"Problem": made}
    return app.openapi_schema or {}


def responses(statuses: Sequence[int]) -> dict[int | str, dict[str, Any]]:
    """Describe problems for a route's documentation."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": DESCRIBED[status], "content": {MEDIA: {"schema": schema}}}
        for status in statuses
    }


def _errors(found: Sequence[Any]) -> list[dict[str, str]]:
    """Name the first wrong fields; names that a caller made up are cut."""
    named = ((".".join(map(str, each["loc"])), str(each["msg"])) for each in found[:_MOST_ERRORS])
    return [{"field": _sendable(field), "reason": _sendable(reason)} for field, reason in named]


def _sendable(text: str) -> str:
    """Cut a text, and replace what UTF-8 cannot write."""
    return text[:_LONGEST].encode(errors="replace").decode()
