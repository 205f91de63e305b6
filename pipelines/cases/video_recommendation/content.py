"""Videos and users as numbers: what can be said of a video that nobody has watched yet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.interactions import DAY, codes

Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_CREATORS = 300
MOST_LANGUAGES = 30
AGE_SCALE_DAYS = 30.0


@dataclass(frozen=True)
class Encoder:
    """The words that the model knows, in the order of its columns, and the scale of durations."""

    genres: tuple[str, ...]
    languages: tuple[str, ...]
    creators: tuple[str, ...]
    countries: tuple[str, ...]
    user_languages: tuple[str, ...]
    devices: tuple[str, ...]
    log_duration: tuple[float, float]

    @classmethod
    def fit(cls, catalogue: pl.DataFrame, users: pl.DataFrame, devices: pl.Series) -> Encoder:
        """Learn the words from the catalogue, the users and the devices of requests."""
        seconds = np.log(catalogue["duration_seconds"].drop_nulls().cast(pl.Float64).to_numpy())
        known = seconds[np.isfinite(seconds)]
        scale = (float(known.mean()), float(max(known.std(), 1e-6))) if known.size else (0.0, 1.0)
        return cls(
            genres=_words(catalogue["genres"].explode(keep_nulls=False, empty_as_null=False), 10_000),
            languages=_words(catalogue["language"], MOST_LANGUAGES),
            creators=_words(catalogue["creator_id"], MOST_CREATORS),
            countries=_words(users["user_country"], MOST_LANGUAGES),
            user_languages=_words(users["user_language"], MOST_LANGUAGES),
            devices=_words(devices, MOST_LANGUAGES),
            log_duration=tuple(round(each, 12) for each in scale),  # type: ignore[arg-type]
        )

    def content(self, catalogue: pl.DataFrame) -> Floats32:
        """Encode videos: genres, language, creator (one-hot), length; shape (n, c)."""
        mean, spread = self.log_duration
        seconds = catalogue["duration_seconds"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        length = (np.log(np.maximum(seconds, 1e-3)) - mean) / spread
        known = np.isfinite(length)
        parts = [
            self.genre_matrix(catalogue),
            _one_hot(codes(catalogue["language"], list(self.languages)), len(self.languages)),
            _one_hot(codes(catalogue["creator_id"], list(self.creators)), len(self.creators)),
            np.where(known, np.clip(length, -4, 4), 0.0)[:, None],
            known[:, None],
        ]
        return np.column_stack(parts).astype(np.float32)

    def genre_matrix(self, catalogue: pl.DataFrame) -> Floats:
        """Encode genres, each row of length 1 (or 0 without genres); shape (n, genres)."""
        found = np.zeros((catalogue.height, len(self.genres)))
        rows = catalogue.select("genres").with_row_index("row").explode("genres").drop_nulls()
        code = codes(rows["genres"], list(self.genres))
        found[rows["row"].to_numpy()[code >= 0], code[code >= 0]] = 1.0
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return np.divide(found, length, out=found, where=length > 0)

    def ages(self, catalogue: pl.DataFrame, day: Floats | float) -> Floats32:
        """Encode the age at a moment: exp(-days / 30), 0 where the publisher does not tell it."""
        published = catalogue["published_at"].cast(pl.Float64).fill_null(np.nan).to_numpy() / DAY
        age = np.maximum(np.asarray(day) - published, 0.0)
        return np.nan_to_num(np.exp(-age / AGE_SCALE_DAYS), nan=0.0).astype(np.float32)

    def words(self, rows: pl.DataFrame) -> Ints:
        """Return codes of users' country, language, and language among those of videos; shape (n, 3)."""
        columns = (
            codes(rows["user_country"], list(self.countries)),
            codes(rows["user_language"], list(self.user_languages)),
            codes(rows["user_language"], list(self.languages)),
        )
        return np.column_stack(columns)

    def users(self, words: Ints) -> Floats32:
        """Encode users from what `words` returned; shape (n, u)."""
        country = _one_hot(words[:, 0], len(self.countries))
        return np.column_stack([country, _one_hot(words[:, 1], len(self.user_languages))]).astype(np.float32)

    def as_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Encoder:
        """Read what `as_json` returned."""
        return cls(**{name: tuple(value) for name, value in content.items()})


def _words(values: pl.Series, most: int) -> tuple[str, ...]:
    """List the most frequent words (ties by name), in the order of their names."""
    counts = values.drop_nulls().cast(pl.String).alias("word").to_frame().group_by("word").len()
    chosen = counts.sort(["len", "word"], descending=[True, False]).head(most)
    return tuple(sorted(chosen["word"].to_list()))


def _one_hot(code: Ints, size: int) -> Floats:
    found = np.zeros((len(code), size))
    known = code >= 0
    found[np.flatnonzero(known), code[known]] = 1.0
    return found
