"""The population of harmful content's world: its authors, what they post, and all that comes of a post.

Drawn from params, seed and the world's first day alone; world.py tells the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pipelines.cases.harmful_content.language import TOPICS, Words
from pipelines.cases.harmful_content.reviews import (
    APPEAL,
    HOUR,
    RULING,
    VOTE,
    appeals,
    outcome_in_time,
    reports,
    review,
    ruled,
)
from pipelines.cases.harmful_content.tables import HARMS
from pipelines.settings import Frozen
from pipelines.world.delays import AT_ONCE, Delivery, deliver, instants
from pipelines.world.numbers import sigmoid
from pipelines.world.population import Columns, Population, Tenure
from pipelines.world.rhythm import Visits, draw_visits
from pipelines.world.rows import words
from pipelines.world.scenarios import Drift, Scenario, blank, rescale
from pipelines.world.state import midnight
from pipelines.world.streams import DAY, Purpose, stream

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

CLIENTS = ("ios", "android", "web", "api")
COUNTRIES = ("AA", "BB", "CC", "DD")
COUNTRY_SHARE, NEW_COUNTRY_SHARE = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.1, 0.2, 0.6])
BASE = np.array([-5.2, -5.4, -4.6, -4.8])
"""How likely an ordinary author's post is of each harm: logits against none."""


class HarmWorld(Frozen):
    """The world's parameters; `authors` is their number on an average day."""

    authors: int = Field(default=2500, ge=10)
    posts_per_author_day: float = Field(default=0.4, gt=0)
    audit: float = Field(default=0.15, gt=0, le=1)
    """The share of posts that are reviewed by chance, whatever they look like."""
    tenure_days: float = Field(default=60.0, gt=0)
    scenario: Scenario = Scenario()
    delivery: Delivery = Delivery()


@dataclass(frozen=True)
class Day:
    """The posts of one day: authors, times, severities (n, 4), texts, and what depends on them."""

    visits: Visits
    severity: Floats
    text: pl.Series
    audience: Floats
    appeal: Floats
    slow: float
    """How many times as long as usual a review takes."""

    @property
    def chance(self) -> Floats:
        """Compute P(label) for each post and harm, (n, 4)."""
        appeal = self.appeal * outcome_in_time(self.slow)
        return chances(self.severity, appeal)


def chances(severity: Floats, appeal: Floats) -> Floats:
    """Compute P(label), (n, 4), from severities (n, 4) and P(appeal whose outcome comes in time), (n,)."""
    p, senior = sigmoid(severity), sigmoid(2 * severity)
    majority = p**2 * (3 - 2 * p)
    return majority * (1 - appeal[:, None] * (1 - senior))


@dataclass(frozen=True)
class Due:
    """Posts that are decided on in one day, n in order of time.

    `asked` are the requests; `later` the reports that come in from the decision on, unless the post is
    removed: columns request (row), time (microseconds), harm (its place).
    """

    asked: pl.DataFrame
    severity: Floats
    appeal: Floats
    slow: Floats
    later: pl.DataFrame

    @property
    def heard(self) -> Floats:
        """Compute P(the author appeals, and the outcome comes in time), (n,)."""
        slow, place = np.unique(self.slow, return_inverse=True)
        return self.appeal * np.array([outcome_in_time(float(each)) for each in slow])[place]

    @property
    def chance(self) -> Floats:
        """Compute P(label) for each post and harm, (n, 4)."""
        return chances(self.severity, self.heard)

    @property
    def harmless(self) -> Floats:
        """Compute P(no harm is found), (n,): an appeal is about all harms at once."""
        p, senior = sigmoid(self.severity), sigmoid(2 * self.severity)
        majority = p**2 * (3 - 2 * p)
        unheard, heard = (1 - majority).prod(axis=1), (1 - majority * senior).prod(axis=1)
        both: Floats = (1 - self.heard) * unheard + self.heard * heard
        return both


class Posts:
    """The population and its truth: drawn from params, seed and the world's first day alone."""

    def __init__(self, params: HarmWorld, seed: int, origin: int) -> None:
        self.params, self.seed, self.origin = params, seed, origin
        self.drift, self._tenure = Drift(params.scenario, origin), Tenure(params.tenure_days)
        self.authors = Population(
            "a", self._draw_authors, seed, Purpose.ACTORS, origin - self._tenure.longest, self._tenure.longest
        )
        self.words = Words(stream(seed, 0, Purpose.STRUCTURE))
        self.day = lru_cache(maxsize=90)(self._draw_day)
        self.due = lru_cache(maxsize=90)(self._draw_due)

    # --- who posts ---------------------------------------------------------------------------------

    def _draw_authors(self, day: int, rng: np.random.Generator) -> Columns:
        regular = self._tenure.arrivals(self.params.authors, rng)
        wave = round(
            4
            * float(self.drift.level("flood", day))
            * self.params.authors
            * self.params.posts_per_author_day
            / 6
        )
        count = regular + wave
        thrown = np.arange(count) >= regular
        shift = float(self.drift.level("covariate", day))
        country = rng.choice(len(COUNTRIES), count, p=(1 - shift) * COUNTRY_SHARE + shift * NEW_COUNTRY_SHARE)
        leaning = BASE + 0.7 * rng.standard_normal((count, len(HARMS)))
        bad, harm = rng.random(count) < 0.10, rng.integers(len(HARMS), size=count)
        leaning[np.flatnonzero(bad), harm[bad]] += 4.8
        leaning[thrown, HARMS.index("spam")] += 3.0
        born, stay = self._tenure.stays(day, count, rng)
        topics = rng.dirichlet(np.full(TOPICS, 0.5), count)
        drawn = shift * (country == len(COUNTRIES) - 1)[:, None]
        return {
            "born": born,
            "gone": born + np.where(thrown, 2 * DAY, stay),
            "country": country,
            "client": rng.choice(len(CLIENTS), count, p=[0.35, 0.35, 0.25, 0.05]),
            "leaning": leaning,
            "topics": (1 - drawn) * topics + drawn * np.eye(TOPICS)[-1],
            "reach": np.log(120) + 1.1 * rng.standard_normal(count),
            "activity": np.where(
                thrown, 3.0 / self.params.posts_per_author_day, rng.gamma(1.5, 1 / 1.5, count)
            ),
            "hunted": rng.random(count) < 0.04,
        }

    def _visits(self, day: int) -> Visits:
        authors = self.authors.alive(day)
        rate = self.params.posts_per_author_day * self.authors["activity"][authors]
        stay = self.authors["born"][authors], self.authors["gone"][authors]
        rng, away = stream(self.seed, day, Purpose.VISITS), np.zeros(len(authors))
        return draw_visits(day, authors, rate * self.drift.rhythm(day), away, *stay, rng)

    # --- what they post ----------------------------------------------------------------------------

    def _draw_day(self, day: int) -> Day:
        visits = self._visits(day)
        rng = stream(self.seed, day, Purpose.ITEMS)
        count = len(visits.actor)
        odds = np.column_stack([np.zeros(count), self.authors["leaning"][visits.actor]])
        kind = np.argmax(odds + rng.gumbel(size=odds.shape), axis=1) - 1
        harmful = (kind[:, None] == np.arange(len(HARMS))) & (kind >= 0)[:, None]
        second = rng.integers(len(HARMS), size=count)
        both = np.flatnonzero((kind >= 0) & (rng.random(count) < 0.15))
        harmful[both, second[both]] = True
        jest = (rng.random(count) < 0.10) & (kind < 0)
        severity = np.where(harmful, 1.5 + 1.2 * rng.standard_normal(harmful.shape), -5.0)
        joked = rng.integers(len(HARMS), size=count)
        severity[jest, joked[jest]] = -2.2 + 0.8 * rng.standard_normal(int(jest.sum()))
        used = harmful.copy()
        used[jest, joked[jest]] = True
        evasion = float(self.drift.concept(day))
        topics = self.authors["topics"][visits.actor]
        text = self.words.write(used, severity, topics, evasion, rng)
        reach = self.authors["reach"][visits.actor] + 0.4 * rng.standard_normal(count)
        sure = sigmoid(severity).max(axis=1)
        appeal = 0.05 + 0.45 * (1 - sure)
        audience: Floats = np.asarray(np.round(np.exp(reach)), dtype=np.float64)
        return Day(visits, severity, text, audience, appeal, float(self.drift.slow(day)))

    # --- the log -----------------------------------------------------------------------------------

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        """Write the registrations of the day; on the first day, of all who are there."""
        authors = self.authors.alive(day) if first else self.authors.arrived(day, day + 1)
        rows = pl.DataFrame(
            {
                "author_id": self.authors.names(authors),
                "registered_at": instants(self.authors["born"][authors]),
                "country": words(COUNTRIES, self.authors["country"][authors]),
            }
        )
        return {"authors": deliver(rows, "registered_at", AT_ONCE, stream(self.seed, day, Purpose.ARRIVALS))}

    def happen(self, day: int) -> Mapping[str, pl.DataFrame]:
        """Write the posts of the day, the decisions on them, and all that came of it."""
        posts = self.day(day)
        requests = self._requests(day, posts)
        decided, told, early, rng = self._looked_at(day, posts)
        flagged = (early >= 2) | self.words.on_list(posts.text)
        audited = stream(self.seed, day, Purpose.POLICY).random(len(decided)) < self.params.audit
        reviewed = flagged | audited
        chance = np.where(flagged, 1.0, np.where(audited, self.params.audit, 1 - self.params.audit))
        decisions = requests.select(
            pl.format("{}-d", "request_id").alias("impression_id"),
            "request_id",
            instants(decided).alias("impression_time"),
            pl.lit(None, pl.Int32).alias("position"),
            pl.Series("propensity", chance),
            pl.Series("decision", np.where(reviewed, "review", "allow")),
            pl.Series("reports", early),
        )
        base = requests.select("author_id", stem="request_id", impression_id=pl.format("{}-d", "request_id"))
        actions = pl.concat([_told(base, told), self._review(posts, base, decided, reviewed, rng)])
        how, mail = self.params.delivery, stream(self.seed, day, Purpose.DELIVERY)
        return {
            "requests": deliver(requests, "request_time", how, mail, spoil="text"),
            "impressions": deliver(decisions, "impression_time", how, mail, spoil="decision"),
            "actions": deliver(actions, "action_time", how, mail, spoil="action"),
        }

    def _draw_due(self, day: int) -> Due:
        """Draw whatever the posts that are decided on in a day bring along; most were posted on it."""
        parts = [self._due_of(posted, day) for posted in (day - 1, day)]
        asked = pl.concat([part.asked for part in parts])
        order = np.argsort(asked["time"].dt.epoch("us").to_numpy(), kind="stable")
        severity, appeal, slow = (
            np.concatenate([getattr(part, name) for part in parts])[order]
            for name in ("severity", "appeal", "slow")
        )
        early, late = parts[0].later, parts[1].later.with_columns(pl.col("request") + parts[0].asked.height)
        later = pl.concat([early, late])
        place = pl.Series(np.argsort(order)).gather(later["request"])
        later = later.with_columns(request=place).sort("request", "time", maintain_order=True)
        return Due(asked[order], severity, appeal, slow, later)

    def _due_of(self, posted: int, day: int) -> Due:
        """Draw the same for the posts of one day."""
        posts = self.day(posted)
        decided, told, early, _ = self._looked_at(posted, posts)
        due = np.flatnonzero(decided // DAY == day)
        asked = self._requests(posted, posts)[due].select(
            instants(decided[due]).alias("time"),
            *("author_id", "text", "audience", "client"),
            pl.Series("reports", early[due]),
        )
        place = pl.DataFrame({"post": due, "request": np.arange(len(due)), "decided": decided[due]})
        later = told.join(place, on="post", maintain_order="left").filter(pl.col("time") >= pl.col("decided"))
        later = later.select("request", "time", "harm")
        return Due(asked, posts.severity[due], posts.appeal[due], np.full(len(due), posts.slow), later)

    def _looked_at(self, day: int, posts: Day) -> tuple[Rows, pl.DataFrame, Rows, np.random.Generator]:
        """Draw when each post of a day is decided on, all reports, and how many of them come before."""
        rng = stream(self.seed, day, Purpose.RESPONSES)
        decided = posts.visits.time + rng.integers(1 * HOUR, 3 * HOUR, len(posts.visits.time))
        told = self._reports(day, posts, rng)
        soon = told.filter(pl.col("time") < pl.Series(decided).gather(told["post"]))
        return decided, told, np.bincount(soon["post"].to_numpy(), minlength=len(decided)), rng

    def _requests(self, day: int, posts: Day) -> pl.DataFrame:
        count = len(posts.visits.actor)
        number = pl.int_range(count, eager=True).cast(pl.String).str.zfill(6)
        ids = [f"p{midnight(day):%Y%m%d}-{each}" for each in number]
        rows = pl.DataFrame(
            {
                "request_id": pl.Series(ids, dtype=pl.String),
                "request_time": instants(posts.visits.time),
                "policy": pl.repeat(
                    f"reports-audit-{self.params.audit:.2f}", count, dtype=pl.String, eager=True
                ),
                "model_version": pl.repeat(None, count, dtype=pl.String, eager=True),
                "author_id": self.authors.names(posts.visits.actor),
                "text": posts.text,
                "audience": posts.audience,
                "client": words(CLIENTS, self.authors["client"][posts.visits.actor]),
            }
        )
        dice = stream(self.seed, day, Purpose.FAULTS).random((2, count))
        rows = rescale(rows, "audience", 1000.0, dice[0] < float(self.drift.level("broken_units", day)))
        return blank(rows, "client", dice[1] < float(self.drift.level("broken_nulls", day)))

    def _reports(self, day: int, posts: Day, rng: np.random.Generator) -> pl.DataFrame:
        """Draw who reports what and when: columns post, time (microseconds), harm (its place)."""
        views = np.sqrt(posts.audience)
        rate = views[:, None] * (0.10 * sigmoid(posts.severity) + 0.0008)
        per_harm = rng.poisson(rate)
        mob = rng.poisson(6.0 * float(self.drift.level("bots", day)), len(views))
        per_harm[:, HARMS.index("offensive")] += mob * self.authors["hunted"][posts.visits.actor]
        post, harm = (np.repeat(index.ravel(), per_harm.ravel()) for index in np.indices(per_harm.shape))
        after = (rng.exponential(3.0, len(post)) * HOUR).astype(np.int64)
        return pl.DataFrame({"post": post, "time": posts.visits.time[post] + after, "harm": harm})

    def _review(
        self,
        posts: Day,
        base: pl.DataFrame,
        decided: Rows,
        reviewed: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> pl.DataFrame:
        """Draw votes within 36 hours, the verdict, the appeal within 12 more, and its outcome within 24 more."""
        chosen = np.flatnonzero(reviewed)
        severity, count = posts.severity[chosen], len(chosen)
        votes = rng.random((3, count, len(HARMS))) < sigmoid(severity)
        voted = decided[chosen] + (rng.uniform(*VOTE, (3, count)) * posts.slow * HOUR).astype(np.int64)
        verdict = votes.sum(axis=0) >= 2
        appealed = np.flatnonzero(verdict.any(axis=1) & (rng.random(count) < posts.appeal[chosen]))
        again = len(appealed)
        asked = ruled(voted)[appealed] + (rng.uniform(*APPEAL, again) * posts.slow * HOUR).astype(np.int64)
        closed = asked + (rng.uniform(*RULING, again) * posts.slow * HOUR).astype(np.int64)
        upheld = verdict[appealed] & (rng.random((again, len(HARMS))) < sigmoid(2 * severity[appealed]))
        base = base[chosen]
        return pl.concat([review(base, voted, votes), appeals(base[appealed], asked, closed, upheld)])


def _told(base: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    number = told.select(pl.int_range(pl.len()).over("post")).to_series()
    return reports(base[told["post"]], told["time"].to_numpy(), told["harm"].to_numpy(), number)
