"""The features of a request's own entities, read from the online store as the request comes."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, Serving
from pipelines.errors import LoopError
from pipelines.settings import Platform
from pipelines.stores.feature_store import open_store
from pipelines.stores.online_features import ViewReader
from pipelines.stores.workspace import Workspace


class StoreDownError(LoopError):
    """The online store cannot be read just now."""


class OwnFeatures:
    """Reads the `own` views of a case. One instance a thread is enough: reads are short."""

    def __init__(self, case: CaseStudy, serving: Serving, ws: Workspace, platform: Platform) -> None:
        self._store = open_store(case, ws, platform)
        self._views = [ViewReader(self._store, name) for name in serving.own]
        self.keys = sorted({key for view in self._views for key in view.keys})
        self.schema = {name: kind for view in self._views for name, kind in view.schema.items()}
        self._fields = set(serving.request.model_fields)
        absent = [key for key in self.keys if key not in self._fields]
        if absent:
            raise LoopError(
                f"{case.name} reads views by '{absent[0]}', which its request does not have: "
                "declare the field, or leave the view out of `own`"
            )

    def read(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Add the features to rows of requests; null where an entity is unknown. Raises StoreDownError."""
        if not self._views:
            return asked
        try:
            parts = [_read(view, asked) for view in self._views]
        except Exception as error:  # whatever the store's driver raises, a request must be answered
            raise StoreDownError(
                f"the online store cannot be read: {type(error).__name__}: {error}"
            ) from error
        rows = [
            {name: value for part in each for name, value in part.items()}
            for each in zip(*parts, strict=True)
        ]
        return asked.hstack(pl.DataFrame(rows, schema=self.schema))

    def blank(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Add the features as nulls: what is answered with while the store is down."""
        return asked.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in self.schema.items())


def _read(view: ViewReader, asked: pl.DataFrame) -> list[dict[str, Any]]:
    """Read a view's row for each request, an entity once however many requests are its own."""
    keys = list(zip(*(asked[name].to_list() for name in view.keys), strict=True))
    distinct = list(dict.fromkeys(keys))
    found = dict(zip(distinct, view.read(distinct), strict=True))
    return [found[key] for key in keys]
