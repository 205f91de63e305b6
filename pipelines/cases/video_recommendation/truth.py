"""The truth of video recommendation: who is there, what there is to watch, and why who watches what.

P(label) = examination(position) · relevance(user, video, time), where the label is a watch of at
least half of the video within 24 hours. Relevance is P(click | examined) · P(half seen | click) ·
P(in time), from latent tastes (the user's against the video's vector), language, freshness,
length against device and hour, appeal and quality. The log shows none of these latents, but their
traces: genres, creators, languages, countries, devices, and who watched what.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipelines.settings import Frozen
from pipelines.world.delays import Delay, Delivery
from pipelines.world.numbers import product, sigmoid, turned, unit
from pipelines.world.population import Columns, Population, Tenure
from pipelines.world.rhythm import local_hour
from pipelines.world.scenarios import Drift, Scenario, weekend
from pipelines.world.streams import DAY, Purpose, stream

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

GENRES = ("music", "gaming", "comedy", "news", "sports", "education", "cooking", "travel", "beauty",
          "technology", "film", "animation")  # fmt: skip
TOPICS = ("live", "explained", "highlights", "in ten minutes", "behind the scenes", "for beginners",
          "best of", "challenge", "review", "part two", "at home", "on the road")  # fmt: skip
LANGUAGES = ("en", "es", "pt", "de", "fr")
DEVICES = ("phone", "desktop", "tv", "tablet")
COUNTRIES = ("US", "GB", "MX", "BR", "DE", "FR")
COUNTRY_SHARE = np.array([0.36, 0.14, 0.16, 0.14, 0.11, 0.09])
COUNTRY_LANGUAGE = np.array([0, 0, 1, 2, 3, 4])
COUNTRY_OFFSET = np.array([-6.0, 0.0, -6.0, -3.0, 1.0, 1.0])
DEVICE_SHARE = np.array([0.56, 0.20, 0.15, 0.09])
LANGUAGE_SHARE = np.array([0.50, 0.17, 0.13, 0.11, 0.09])
NEW_COUNTRY_SHARE = np.array([0.12, 0.05, 0.18, 0.50, 0.08, 0.07])
NEW_DEVICE_SHARE = np.array([0.18, 0.10, 0.62, 0.10])
"""Who registers under the covariate scenario at full strength."""
GENRE_MINUTES = np.array([4, 14, 5, 4, 8, 11, 8, 9, 7, 9, 16, 6])
DEVICE_LENGTH = np.array([-0.30, 0.05, 0.45, 0.10])
"""How much more each device's owners like a video e times as long."""

DIMENSIONS = 8
CREATORS = 240
CLICK_DELAY = Delay(median=8.0, spread=1.0, slow_share=0.08, slow_mean=8 * 3600)
"""From an impression to its click: seconds, or hours where the video was put aside for later."""
COMPLETED = 0.55
"""The share of half-seen videos that are seen to the end; the rest are left evenly in their second half."""
ATTRIBUTION = 24 * 3600.0


class VideoWorld(Frozen):
    """The world's parameters; `users` and `videos` are the numbers there on an average day."""

    users: int = Field(default=4000, ge=1)
    videos: int = Field(default=1500, ge=1)
    requests_per_user_day: float = Field(default=0.75, gt=0)
    slate: int = Field(default=10, ge=1)
    exploration: float = Field(default=0.10, ge=0, le=1)
    position_decay: float = Field(default=0.4, ge=0)
    shelf_days: int = Field(default=30, ge=1)
    tenure_days: float = Field(default=75.0, gt=0)
    popularity_half_life: float = Field(default=2.0, gt=0)
    burn_in_days: int = Field(default=30, ge=0)
    scenario: Scenario = Scenario()
    delivery: Delivery = Delivery()


class VideoTruth:
    """The population and its truth: drawn from params, seed and the world's first day alone."""

    def __init__(self, params: VideoWorld, seed: int, origin: int) -> None:
        self.params, self.seed, self.origin = params, seed, origin
        self.drift = Drift(params.scenario, origin)
        rng = stream(seed, 0, Purpose.STRUCTURE)
        self._genres = _spread(len(GENRES), DIMENSIONS, rng)
        self._country_taste = 0.7 * rng.standard_normal((len(COUNTRIES), len(GENRES)))
        self._device_taste = 0.7 * rng.standard_normal((len(DEVICES), len(GENRES)))
        self._creator_genre = rng.integers(len(GENRES), size=CREATORS)
        self._creator_language = rng.choice(len(LANGUAGES), size=CREATORS, p=LANGUAGE_SHARE)
        self._creator_taste = unit(
            self._genres[self._creator_genre] + 0.8 * unit(rng.standard_normal((CREATORS, DIMENSIONS)))
        )
        share = 1 / (np.arange(CREATORS) + 8.0)
        self._creator_share = rng.permutation(share / share.sum())
        self._turned = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))[0]
        self._bots_owners = rng.choice(CREATORS, size=4, replace=False)
        self._tenure = Tenure(params.tenure_days)
        first = origin - params.burn_in_days - 2
        self.actors = Population(
            "u", self._draw_users, seed, Purpose.ACTORS, first - self._tenure.longest, self._tenure.longest
        )
        self.items = Population(
            "v", self._draw_videos, seed, Purpose.ITEMS, first - params.shelf_days, params.shelf_days + 1
        )

    def _draw_users(self, day: int, rng: np.random.Generator) -> Columns:
        people = self._tenure.arrivals(self.params.users, rng)
        bot = np.arange(people + self.drift.bots(self.params.users, day)) >= people
        count = len(bot)
        shift = float(self.drift.level("covariate", day))
        country = rng.choice(len(COUNTRIES), count, p=(1 - shift) * COUNTRY_SHARE + shift * NEW_COUNTRY_SHARE)
        device = rng.choice(len(DEVICES), count, p=(1 - shift) * DEVICE_SHARE + shift * NEW_DEVICE_SHARE)
        language = np.where(rng.random(count) < 0.92, COUNTRY_LANGUAGE[country], 0)
        liking = self._country_taste[country] + self._device_taste[device]
        liking = np.exp(liking + 1.3 * rng.standard_normal((count, len(GENRES))))
        liking /= liking.sum(axis=1, keepdims=True)
        own = 0.35 * unit(rng.standard_normal((count, DIMENSIONS)))
        born, stay = self._tenure.stays(day, count, rng)
        return {
            "born": born,
            "gone": born + np.where(bot, self._tenure.longest * DAY, stay),
            "country": country,
            "language": language,
            "device": device,
            "taste": unit(product(liking, self._genres) + own),
            "openness": 0.5 * rng.standard_normal(count),
            "activity": np.where(bot, 60.0, rng.gamma(1.2, 1 / 1.2, count)),
            "bot": bot,
        }

    def _draw_videos(self, day: int, rng: np.random.Generator) -> Columns:
        flood = float(self.drift.level("flood", day))
        count = rng.poisson(self.params.videos / self.params.shelf_days * (1 + 6 * flood))
        creator = rng.choice(CREATORS, count, p=self._creator_share)
        own_genre = rng.random(count) < 0.8
        genre = np.where(own_genre, self._creator_genre[creator], rng.integers(len(GENRES), size=count))
        other = rng.integers(len(GENRES), size=count)
        second = np.where((rng.random(count) < 0.45) & (other != genre), other, -1)
        vector = 0.6 * self._genres[genre] + 0.6 * self._creator_taste[creator]
        vector += np.where(second[:, None] >= 0, 0.3 * self._genres[other], 0.0)
        vector += 0.35 * unit(rng.standard_normal((count, DIMENSIONS)))
        quality, other_quality, appeal = rng.standard_normal((3, count))
        shorter = 1 - 0.75 * float(self.drift.level("covariate", day))
        minutes = GENRE_MINUTES[genre] * np.exp(0.6 * rng.standard_normal(count)) * shorter
        return {
            "born": day * DAY + (rng.random(count) * (DAY - 1)).astype(np.int64),
            "gone": np.full(count, (day + 1 + self.params.shelf_days) * DAY),
            "creator": creator,
            "language": np.where(rng.random(count) < 0.96, self._creator_language[creator], 0),
            "genre": genre,
            "second": second,
            "vector": unit(vector),
            "quality": quality - 1.0 * flood,
            "other_quality": other_quality,
            "appeal": 0.5 * quality + 0.85 * appeal,
            "seconds": np.round(np.clip(minutes * 60, 20, 3600)),
            "topic": rng.integers(len(TOPICS), size=count),
            "fault": rng.random(count),
        }

    def examination(self, actors: Rows, positions: Rows) -> Floats:
        """Compute P(examined): a power of the position; bots examine everything."""
        decay = np.where(self.actors["bot"][actors], 0.0, self.params.position_decay)
        return np.asarray(positions, dtype=np.float64) ** -decay

    def relevance(self, actors: Rows, items: Rows, time: Rows, *, grid: bool = False) -> Floats:
        """Compute P(label | examined) of pairs, shape (n,); or of all users with all videos, (n, m)."""
        click, half = self.chances(actors, items, time, grid=grid)
        slow = self.drift.slow((time[:1] if grid else time) // DAY)
        return click * half * _in_time(self.items["seconds"][items], slow)

    def chances(self, actors: Rows, items: Rows, time: Rows, *, grid: bool = False) -> tuple[Floats, Floats]:
        """Compute P(click | examined) and P(at least half seen | click)."""
        traits = ("language", "device", "openness", "bot", "country")
        user = {name: self.actors[name][actors] for name in traits}
        day = time // DAY
        taste = turned(self.actors["taste"][actors], self.drift.concept(day), self._turned)
        video = {name: self.items[name][items] for name in ("language", "genre", "appeal", "born", "creator")}
        length = np.log(self.items["seconds"][items] / 400.0)
        if grid:
            match = product(taste, self.items["vector"][items].T)
            user, time, day = {name: each[:, None] for name, each in user.items()}, time[:, None], day[:1]
        else:
            match = np.einsum("nd,nd->n", taste, self.items["vector"][items])
        concept = self.drift.concept(day)
        quality = (1 - concept) * self.items["quality"][items] + concept * self.items["other_quality"][items]
        foreign = (user["language"] != video["language"]) * np.where(video["genre"] == 0, 0.5, 1.5)
        evening = local_hour(time, COUNTRY_OFFSET[user["country"]]) >= 18
        fit = (DEVICE_LENGTH[user["device"]] + 0.15 * evening) * length
        fresh = np.exp(-(time - video["born"]) / (5.0 * DAY))
        weekly = 0.15 * self.drift.level("season", day) * weekend(day)
        appeal = (1 - concept) * video["appeal"] + concept * quality
        eager = 0.8 * fresh + user["openness"] + weekly - 0.6
        click = sigmoid(3.0 * match + 0.65 * appeal - foreign + fit + eager)
        half = sigmoid(0.8 + 1.8 * match + 0.7 * quality - 0.4 * foreign + fit - 0.25 * length)
        if not user["bot"].any():
            return click, half
        paid = np.where(np.isin(video["creator"], self._bots_owners), 0.95, 0.02)
        return np.where(user["bot"], paid, click), np.where(user["bot"], 0.98, half)


def _in_time(seconds: Floats, slow: Floats) -> Floats:
    """Compute P(half seen within the attribution window), exactly: over the click's delay and the share.

    A slow click (exponential, mean m) is late with probability exp(-(window - share · seconds) / m). `slow`
    is the factor by which clicks come later.
    """
    mean = CLICK_DELAY.slow_mean * slow
    rate = seconds / mean
    over_share = COMPLETED * np.exp(rate) + (1 - COMPLETED) * 2 * (np.exp(rate) - np.exp(rate / 2)) / rate
    late: Floats = CLICK_DELAY.slow_share * np.exp(-ATTRIBUTION / mean) * over_share
    return 1 - late


def _spread(count: int, dimensions: int, rng: np.random.Generator) -> Floats:
    """Draw unit vectors that spread evenly around the origin: worlds then differ little in base rate."""
    axes = np.column_stack([np.ones(count), rng.standard_normal((count, dimensions))])
    return unit(np.linalg.qr(axes)[0][:, 1:])
