"""The registry: runs, versions and aliases in MLflow. Only `promote` and `rollback` write to it.

An alias names one version: `champion` serves, `challenger` passed the gate and waits for live users,
`previous` was champion before. Moves happen under a lock, and an intent that is written first lets the
next one finish or undo a move that was killed halfway. An outage is an error, never "no champion".
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.errors import LoopError
from pipelines.stores import run_log
from pipelines.stores.models import check, read_examples, read_manifest
from pipelines.stores.postgres import is_postgres, making_tables
from pipelines.stores.run_log import RunContent

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_INTENT = "intent"
_REFIT_OF = "refit_of"
_LOCK_SECONDS = 1800.0
_DESCRIPTION = 5000  # what MLflow's tables hold; PostgreSQL refuses more, SQLite would not


@dataclass(frozen=True)
class Version:
    """A registered model version."""

    number: str
    digest: str
    run_id: str
    model_id: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Say which kind of workspace made it: 'runs' or 'live'."""
        return self.tags.get("origin", "")


class RegistryDownError(LoopError):
    """The registry, or the files of its models, cannot be reached just now: try again."""


class Registry:
    """One registered model and its experiment, in one MLflow store."""

    def __init__(self, tracking_uri: str, artifact_root: str, name: str) -> None:
        self.tracking_uri = tracking_uri
        self.artifact_root = artifact_root
        self.name = name

    @cached_property
    def client(self) -> Any:
        """Open the store; its tables are created by one process alone."""
        return open_store(self.tracking_uri)

    @cached_property
    def _file_lock(self) -> FileLock:
        folder = _lock_folder(self.tracking_uri, self.artifact_root)
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f".{self.name}.lock")

    @cached_property
    def _copies(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="registry-")

    @contextmanager
    def lock(self, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
        """Hold this model's aliases alone, and mend what a killed process left; re-entrant.

        The operating system frees the lock when its process dies.
        """
        try:
            self._file_lock.acquire(timeout=seconds)
        except Timeout:
            raise LoopError(
                f"another promotion of {self.name} has held the registry for {seconds:.0f} s: wait for it "
                "to end"
            ) from None
        try:
            self.repair()
            yield
        finally:
            self._file_lock.release()

    # --- reading ---------------------------------------------------------------------------------

    def champion(self) -> Version | None:
        """Return the version that serves, or None where none was ever promoted.

        Raise LoopError where the registry cannot be read: an outage is not an answer.
        """
        return self.by_alias(CHAMPION)

    def challenger(self) -> Version | None:
        """Return the version that passed the gate and waits for its experiment."""
        return self.by_alias(CHALLENGER)

    def previous(self) -> Version | None:
        """Return the champion before this one."""
        return self.by_alias(PREVIOUS)

    def by_alias(self, alias: str) -> Version | None:
        """Return the version that an alias names, or None."""
        number = self.aliases().get(alias)
        return None if number is None else self.version(number)

    def aliases(self) -> dict[str, str]:
        """Return {alias: version number}; empty where the model was never registered."""
        model = self._registered()
        return {} if model is None else {alias: str(number) for alias, number in model.aliases.items()}

    def version(self, number: str) -> Version:
        """Return one version; raise LoopError where it does not exist or cannot be read."""
        with self._reading():
            return _version(self.client.get_model_version(self.name, number))

    def versions(self) -> list[Version]:
        """Return all versions, the newest first."""
        return self._search(f"name = '{self.name}'")

    def holding(self, digest: str) -> list[Version]:
        """Return the versions that hold the model with this digest, the newest first.

        There are several where a model that was a refit is trained again, to be judged by the days after.
        """
        return self._search(f"name = '{self.name}' and tags.digest = '{digest}'")

    def find(self, digest: str) -> Version | None:
        """Return the newest version that holds the model with this digest."""
        return next(iter(self.holding(digest)), None)

    def judged(self, version: Version) -> Version:
        """Return the version that the gate judged: itself, but for a refit, whose newest rows it has learned from."""
        number = version.tags.get(_REFIT_OF)
        return version if number is None else self.version(number)

    def load(self, version: Version) -> Path:
        """Return a version's model directory, its hashes checked against files, manifest and registry."""
        with self._reading():
            # By location: a models:/ URI would be resolved by the process-wide tracking URI.
            location = self.client.get_logged_model(version.model_id).artifact_location
        folder = self._fetch(location, version)
        manifest = check(folder)
        if manifest["digest"] != version.digest:
            raise LoopError(
                f"version {version.number} of {self.name} holds model {manifest['digest'][:12]}, the "
                f"registry says {version.digest[:12]}: one was changed; roll back, then train again"
            )
        return folder

    def _fetch(self, location: str, version: Version) -> Path:
        """Return the folder of a version's files, copied here where they stand elsewhere.

        Raises RegistryDownError where remote files cannot be had just now, LoopError where local ones are gone.
        """
        from mlflow.artifacts import download_artifacts

        copy = self._copy(location, version)
        try:
            fetched = download_artifacts(artifact_uri=location, dst_path=copy, tracking_uri=self.tracking_uri)
            return next((Path(fetched) / "artifacts").iterdir())
        except Exception as error:  # whatever the object store's client raises
            if copy is not None:
                raise _outage(location, error) from error
            raise LoopError(
                f"the files of version {version.number} of {self.name} cannot be read ({error}): put them back "
                "from a backup, or train again"
            ) from error

    def _copy(self, location: str, version: Version) -> str | None:
        """Name a folder for a remote model's copy, gone when this registry is; a local one stays in place."""
        if location.startswith(("/", "file:")):
            return None
        folder = Path(self._copies.name) / version.number
        folder.mkdir(exist_ok=True)
        return str(folder)

    # --- writing ---------------------------------------------------------------------------------

    def log_run(self, content: RunContent, folder: Path, tags: Mapping[str, str]) -> tuple[str, Version]:
        """Log a run with its model, register the model, and return (run id, version).

        Idempotent: a model's digest has one version of a moment, a run's key has one run; what a killed
        process left half done is continued.
        """
        with self._reading(), self.lock():
            experiment = run_log.experiment(self.client, self.name, self.artifact_root, content)
            run_id = run_log.begin(self.client, experiment, content)
            version = self.register(experiment, run_id, folder, content, tags)
            run_log.fill(self.client, run_id, version.model_id, content)
            run_log.end(self.client, run_id, version.number)
        return run_id, version

    def log_refit(
        self, content: RunContent, judged: Version, folder: Path, tags: Mapping[str, str]
    ) -> Version:
        """Register what a judged version became when it was fitted once more, under the same run."""
        card = f"Version {judged.number}, fitted once more on the days too that it was judged by.\n\n{content.card}"
        with self._reading(), self.lock():
            experiment = run_log.experiment(self.client, self.name, self.artifact_root, content)
            told = replace(content, card=card)
            return self.register(experiment, judged.run_id, folder, told, {**tags, _REFIT_OF: judged.number})

    def register(
        self, experiment: str, run_id: str, folder: Path, content: RunContent, tags: Mapping[str, str]
    ) -> Version:
        """Store a model directory as a version, or find the version that already holds it.

        The same model of another moment, or fitted once more there, is a version of its own: it was judged by
        other rows.
        """
        check(folder)
        digest = read_manifest(folder)["digest"]
        same = ("as_of", _REFIT_OF)
        for found in self.holding(digest):
            if all(found.tags.get(name) == tags.get(name) for name in same):
                return found
        if self._registered() is None:
            self.client.create_registered_model(self.name, description=_described(content.framing))
        model_id = run_log.store_model(
            self.client, experiment, run_id, folder, read_examples(folder), content
        )
        with run_log.process_uri(self.tracking_uri):
            made = self.client.create_model_version(
                self.name,
                source=f"models:/{model_id}",
                run_id=run_id,
                model_id=model_id,
                tags={**tags, "digest": digest, "model_id": model_id},
                description=_described(content.card),
            )
        return _version(made)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""
        with self._reading():
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, version.number, key, value)

    def untag(self, version: Version, key: str) -> None:
        """Remove a tag from a version where it has it."""
        if key in self.version(version.number).tags:
            with self._reading():
                self.client.delete_model_version_tag(self.name, version.number, key)

    def set_alias(self, alias: str, version: Version) -> None:
        """Point one alias at a version."""
        with self._reading(), self.lock():
            self.client.set_registered_model_alias(self.name, alias, version.number)

    def drop_alias(self, alias: str) -> None:
        """Take an alias away."""
        with self._reading(), self.lock():
            self._point(alias, None)

    def crown(self, version: Version) -> None:
        """Make a version the champion, and the champion of before `previous`; all of it or nothing.

        The version must load: a champion that cannot serve is none.
        """
        self.load(version)
        with self._reading(), self.lock():
            aliases = self.aliases()
            if aliases.get(CHAMPION) == version.number:
                return
            intent = {"to": version.number, "from": aliases.get(CHAMPION), "previous": aliases.get(PREVIOUS)}
            self.client.set_registered_model_tag(self.name, _INTENT, json.dumps(intent))
            if intent["from"] is not None:
                self.client.set_registered_model_alias(self.name, PREVIOUS, intent["from"])
            self.client.set_registered_model_alias(self.name, CHAMPION, version.number)
            self._settle(version.number)

    def repair(self) -> None:
        """Finish or undo a move of aliases that was killed halfway."""
        model = self._registered()
        text = None if model is None else model.tags.get(_INTENT)
        if not text:
            return
        intent = json.loads(text)
        with self._reading():
            if self.aliases().get(CHAMPION) != intent["to"]:
                self._point(PREVIOUS, intent["previous"])
                self.client.delete_registered_model_tag(self.name, _INTENT)
                return
            if intent["from"] is not None:
                self._point(PREVIOUS, intent["from"])
            self._settle(intent["to"])

    def _settle(self, number: str) -> None:
        """End a move: a challenger that is the champion now, or older than it, waits no more.

        The older one was judged against another champion, and has learned from older rows.
        """
        waits = self.aliases().get(CHALLENGER)
        if waits is not None and int(waits) <= int(number):
            if waits != number:
                why = f"version {number}, which is newer, became champion meanwhile"
                self.tag(self.version(waits), {"decision": "dismissed", "why": why})
            self.client.delete_registered_model_alias(self.name, CHALLENGER)
        self.client.delete_registered_model_tag(self.name, _INTENT)

    def _point(self, alias: str, number: str | None) -> None:
        if number is not None:
            self.client.set_registered_model_alias(self.name, alias, number)
        elif alias in self.aliases():
            self.client.delete_registered_model_alias(self.name, alias)

    def _registered(self) -> Any:
        from mlflow.exceptions import MlflowException

        with self._reading():
            try:
                return self.client.get_registered_model(self.name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def _search(self, query: str) -> list[Version]:
        with self._reading():
            found, token = [], None
            while True:
                page = self.client.search_model_versions(query, max_results=1000, page_token=token)
                found += [_version(each) for each in page]
                token = page.token
                if not token:
                    return sorted(found, key=lambda version: -int(version.number))

    def _reading(self) -> AbstractContextManager[None]:
        return _outages(self.tracking_uri)


@contextmanager
def _outages(tracking_uri: str) -> Iterator[None]:
    """Turn any failure of the store into an error that says so."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise _outage(tracking_uri, error) from error


def open_store(tracking_uri: str) -> Any:
    """Return a client of the store, its tables made; raise LoopError where it cannot be reached."""
    quiet()
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # its import set another
    with _outages(tracking_uri), _making_tables(tracking_uri):
        client = MlflowClient(tracking_uri, tracking_uri)
        if not tracking_uri.startswith("http"):
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
        return client


def _making_tables(tracking_uri: str) -> AbstractContextManager[object]:
    """Hold a store alone while its tables are made: two processes at once break them. A server makes its own."""
    if tracking_uri.startswith("sqlite:"):
        path = _sqlite_path(tracking_uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_name(f".{path.name}.lock"))
    if is_postgres(tracking_uri):
        return making_tables(tracking_uri, "the registry")
    return nullcontext()


def store_identity(tracking_uri: str) -> str:
    """Make sure that the store exists, and return what tells it from one made after a wipe."""
    if tracking_uri.startswith("sqlite:"):
        path = _sqlite_path(tracking_uri)
        born = _born(path)
        if born is None:
            open_store(tracking_uri)
            born = _born(path)
    else:
        with _outages(tracking_uri):
            born = open_store(tracking_uri).get_experiment("0").creation_time
    return hashlib.sha256(f"{tracking_uri} {born}".encode()).hexdigest() + "\n"


def quiet() -> None:
    """Switch off MLflow's telemetry, hints and unsafe loading, and do not wait minutes for a dead server."""
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"mlflow\.")  # hints to those who write MLflow code by hand


def _born(path: Path) -> int | None:
    """Read when a SQLite store was made, without MLflow's second of imports."""
    if not path.exists():
        return None
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            query = "select creation_time from experiments where experiment_id = 0"
            row = connection.execute(query).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else int(row[0])


def _described(text: str) -> str:
    return run_log.shortened(text, _DESCRIPTION)


def _version(found: Any) -> Version:
    tags = dict(found.tags)
    return Version(
        str(found.version), tags.get("digest", ""), found.run_id or "", tags.get("model_id", ""), tags
    )


def _sqlite_path(tracking_uri: str) -> Path:
    return Path(tracking_uri.removeprefix("sqlite:///"))


def _lock_folder(tracking_uri: str, artifact_root: str) -> Path:
    if tracking_uri.startswith("sqlite:"):
        return _sqlite_path(tracking_uri).parent
    return Path(tempfile.gettempdir()) if "://" in artifact_root else Path(artifact_root)


def _outage(tracking_uri: str, error: Exception) -> RegistryDownError:
    where = tracking_uri.rpartition("@")[2] if "@" in tracking_uri else tracking_uri  # never print a password
    return RegistryDownError(
        f"the registry at {where} cannot be used ({type(error).__name__}: {error}): nothing was decided "
        "and no alias "
        "moved; see that it is up and whole, then try again"
    )
