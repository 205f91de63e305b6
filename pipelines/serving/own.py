"""The features of a request's own entities, read from the online store as the request comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipelines.case_study import CaseStudy, Serving
from pipelines.errors import LoopError
from pipelines.settings import Platform
from pipelines.stores.declarations import polars_type
from pipelines.stores.feature_store import open_store
from pipelines.stores.online_features import online_columns
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from feast import FeatureStore


class StoreDownError(LoopError):
    """The online store cannot be read just now."""


class OwnFeatures:
    """Reads the `own` views of a case. One instance a thread is enough: reads are short."""

    def __init__(self, case: CaseStudy, serving: Serving, ws: Workspace, platform: Platform) -> None:
        self._store: FeatureStore = open_store(case, ws, platform)
        views = [self._store.get_feature_view(name) for name in serving.own]
        self._asked = [f"{view.name}:{field.name}" for view in views for field in view.features]
        self.keys = sorted({column.name for view in views for column in view.entity_columns})
        self.schema = {field.name: polars_type(field.dtype) for view in views for field in view.features}
        self._fields = set(serving.request.model_fields)
        absent = [key for key in self.keys if key not in self._fields]
        if absent:
            raise LoopError(
                f"{case.name} reads views by '{absent[0]}', which its request does not have: "
                "declare the field, or leave the view out of `own`"
            )

    def read(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Add the features to rows of requests; null where an entity is unknown. Raises StoreDownError."""
        if not self._asked:
            return asked
        keys = asked.select(self.keys)
        alone = keys.height == 1
        keys = keys if alone else keys.unique(maintain_order=True)
        try:
            values = online_columns(self._store, self._asked, keys.to_dicts())
        except Exception as error:  # whatever the store's driver raises, a request must be answered
            raise StoreDownError(
                f"the online store cannot be read: {type(error).__name__}: {error}"
            ) from error
        found = pl.DataFrame(
            {name: pl.Series(name, values[name], dtype=self.schema[name]) for name in self.schema}
        )
        if alone:
            return asked.hstack(found)
        return asked.join(
            pl.concat([keys, found], how="horizontal"), on=self.keys, how="left", maintain_order="left"
        )

    def blank(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Add the features as nulls: what is answered with while the store is down."""
        return asked.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in self.schema.items())
