"""Requests made up from an app's own OpenAPI document, good ones and bad ones, and their replies held to it."""

from __future__ import annotations

from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def probe(app: FastAPI, examples: int) -> dict[str, int]:
    """Send `examples` requests of either kind to each operation; return how often each status came back."""
    statuses: dict[str, int] = {}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and operation.method.upper() == "GET":
                continue  # nothing can be wrong with it

            @seed(7)
            @settings(
                max_examples=examples,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                reply = case.call()
                key = f"{case.method} {case.path} {reply.status_code}"
                statuses[key] = statuses.get(key, 0) + 1
                case.validate_response(reply, checks=CHECKS)

            send()
    return statuses
