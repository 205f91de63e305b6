"""The model as MLflow loads it: this file is stored with every version and run when one is loaded.

It holds no pickle: it checks the model directory's hashes and calls the function that its manifest
names, so the project must be importable where the model is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from pipelines.stores.frames import from_pandas
from pipelines.stores.models import load_by_manifest, read_examples


class CaseModel(PythonModel):  # type: ignore[misc]
    """A case's model behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Load the model directory, hashes first."""
        folder = Path(context.artifacts["model"])
        self.model = load_by_manifest(folder)
        self.schema = read_examples(folder).schema

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Score feature rows, shape (n,)."""
        return self.model.predict(from_pandas(model_input, self.schema))


set_model(CaseModel())
