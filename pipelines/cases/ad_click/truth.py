"""The truth of ad clicks: who is there, what is advertised, and why who clicks what.

P(label) = examination(position) · relevance(user, ad, time), where the label is a click within an hour.
Relevance is P(click | examined) · P(in time): latent tastes (the user's against the ad's vector), how readily
the user clicks, quality, wear, and what the page adds: its site, its device, the hour. The log shows traces:
gender, age, city, categories, campaigns. An ad is shown together with its page, so that the time of a request
is that of its impressions; device and site follow from user and time, and the judge knows them again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipelines.settings import Frozen
from pipelines.world.delays import Delay, Delivery
from pipelines.world.numbers import product, turned, unit
from pipelines.world.population import Columns, Population, Tenure
from pipelines.world.rhythm import local_hour
from pipelines.world.scenarios import Drift, Scenario, weekend
from pipelines.world.streams import DAY, SECOND, Purpose, mix, stream, uniform

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Page = tuple[Rows, Rows]
"""Device and site."""

CATEGORIES = (
    "games",
    "fashion",
    "travel",
    "finance",
    "food",
    "electronics",
    "cars",
    "health",
    "home",
    "education",
)
PRODUCTS = ("install", "sale", "brand", "trial")
DEVICES = ("phone", "desktop", "tablet")
GENDERS = ("female", "male", "other")
AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
GENDER_SHARE = np.array([0.49, 0.47, 0.04])
AGE_SHARE = np.array([0.22, 0.28, 0.22, 0.16, 0.12])
DEVICE_SHARE = np.array([0.62, 0.28, 0.10])
NEW_AGE_SHARE = np.array([0.05, 0.08, 0.15, 0.30, 0.42])
NEW_DEVICE_SHARE = np.array([0.25, 0.20, 0.55])
"""Who registers under the covariate scenario at full strength."""
SITES, CITY_LEVELS, DIMENSIONS = 12, 4, 6
OFFSET_HOURS = np.array([-5.0, 0.0, 1.0, 5.5])
"""The clock of each city level."""
ADS_A_CAMPAIGN = 3.0
HOUR = 3600 * SECOND
CLICK_DELAY = Delay(median=6.0, spread=1.0, slow_share=0.06, slow_mean=1800.0)
"""From an impression to its click: seconds, or half an hour where the page is left open."""
ATTRIBUTION = 3600.0


class AdWorld(Frozen):
    """The world's parameters; `users` and `ads` are the numbers there on an average day."""

    users: int = Field(default=2500, ge=1)
    ads: int = Field(default=120, ge=1)
    requests_per_user_day: float = Field(default=1.5, gt=0)
    slate: int = Field(default=3, ge=1)
    exploration: float = Field(default=0.10, ge=0, le=1)
    position_decay: float = Field(default=0.5, ge=0)
    longest_days: int = Field(default=30, ge=2)
    tenure_days: float = Field(default=60.0, gt=0)
    popularity_half_life: float = Field(default=2.0, gt=0)
    burn_in_days: int = Field(default=14, ge=0)
    scenario: Scenario = Scenario()
    delivery: Delivery = Delivery()


class AdTruth:
    """The population and its truth: drawn from params, seed and the world's first day alone."""

    def __init__(self, params: AdWorld, seed: int, origin: int) -> None:
        self.params, self.seed, self.origin = params, seed, origin
        self.drift = Drift(params.scenario, origin)
        rng = stream(seed, 0, Purpose.STRUCTURE)
        self._topics = unit(rng.standard_normal((len(CATEGORIES), DIMENSIONS)))
        self._gender_taste = rng.standard_normal((len(GENDERS), len(CATEGORIES)))
        self._age_taste = rng.standard_normal((len(AGES), len(CATEGORIES)))
        self._city_taste = 0.5 * rng.standard_normal((CITY_LEVELS, len(CATEGORIES)))
        self._site_topic = 0.7 * rng.standard_normal((SITES, len(CATEGORIES)))
        self._site_share = rng.dirichlet(np.full(SITES, 3.0))
        self._site_level = 0.4 * rng.standard_normal(SITES)
        self._device_product = 0.5 * rng.standard_normal((len(DEVICES), len(PRODUCTS)))
        self._turned = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))[0]
        self._tenure = Tenure(params.tenure_days)
        first = origin - params.burn_in_days - 2
        self.actors = Population(
            "u", self._draw_users, seed, Purpose.ACTORS, first - self._tenure.longest, self._tenure.longest
        )
        self.items = Population(
            "a", self._draw_ads, seed, Purpose.ITEMS, first - params.longest_days, params.longest_days + 1
        )

    def _draw_users(self, day: int, rng: np.random.Generator) -> Columns:
        people = self._tenure.arrivals(self.params.users, rng)
        count = people + self.drift.bots(self.params.users, day)
        bot = np.arange(count) >= people
        shift = float(self.drift.level("covariate", day))
        age = rng.choice(len(AGES), count, p=(1 - shift) * AGE_SHARE + shift * NEW_AGE_SHARE)
        device = rng.choice(len(DEVICES), count, p=(1 - shift) * DEVICE_SHARE + shift * NEW_DEVICE_SHARE)
        gender = rng.choice(len(GENDERS), count, p=GENDER_SHARE)
        city = rng.integers(CITY_LEVELS, size=count)
        liking = self._gender_taste[gender] + self._age_taste[age] + self._city_taste[city]
        liking = np.exp(liking + 0.8 * rng.standard_normal((count, len(CATEGORIES))))
        liking /= liking.sum(axis=1, keepdims=True)
        born, stay = self._tenure.stays(day, count, rng)
        return {
            "born": born,
            "gone": born + np.where(bot, self._tenure.longest * DAY, stay),
            "gender": gender,
            "age": age,
            "city": city,
            "device": device,
            "taste": unit(product(liking, self._topics)),
            "openness": 0.7 * rng.standard_normal(count),
            "activity": np.where(bot, 40.0, rng.gamma(1.2, 1 / 1.2, count)),
            "bot": bot,
        }

    def _draw_ads(self, day: int, rng: np.random.Generator) -> Columns:
        """Draw the campaigns that begin on a day: their ads share category, lifetime and most of their quality."""
        flood = float(self.drift.level("flood", day))
        mean_days = (self.params.longest_days + 5) / 2
        campaigns = rng.poisson(self.params.ads / mean_days / ADS_A_CAMPAIGN * (1 + 6 * flood))
        ads = rng.poisson(ADS_A_CAMPAIGN - 1, campaigns) + 1
        at = np.repeat(np.arange(campaigns), ads)
        count = len(at)
        shift = float(self.drift.level("covariate", day))
        category = rng.integers(len(CATEGORIES), size=campaigns)
        fewer = rng.random(campaigns) < 0.6 * shift
        category = np.where(fewer, category % 3, category)[at]
        days = rng.integers(5, self.params.longest_days + 1, campaigns)[at]
        quality, other, owner = rng.standard_normal((3, campaigns))
        own, own_other, noise = rng.standard_normal((3, count))
        born = day * DAY + (rng.random(campaigns) * (DAY - 1)).astype(np.int64)
        return {
            "born": born[at],
            "gone": (day + 1 + days) * DAY,
            "campaign": at,
            "day": np.full(count, day),
            "category": category,
            "product": rng.integers(len(PRODUCTS), size=count),
            "subcategory": rng.integers(4, size=count),
            "vector": unit(self._topics[category] + 0.4 * unit(rng.standard_normal((count, DIMENSIONS)))),
            "quality": 0.45 * quality[at] + 0.25 * own - 0.6 * flood,
            "other_quality": 0.45 * other[at] + 0.25 * own_other,
            "bid": np.round(np.exp(-0.7 + 0.3 * quality[at] + 0.4 * noise), 3) + 0.01,
            "fault": rng.random(count),
            "paid": owner[at] > 1.5,
        }

    def examination(self, actors: Rows, positions: Rows) -> Floats:
        """Compute P(examined): a power of the position; bots examine everything."""
        decay = np.where(self.actors["bot"][actors], 0.0, self.params.position_decay)
        return np.asarray(positions, dtype=np.float64) ** -decay

    def relevance(
        self, actors: Rows, items: Rows, time: Rows, *, grid: bool = False, page: Page | None = None
    ) -> Floats:
        """Compute P(label | examined) of pairs, shape (n,); or of all users with all ads, (n, m)."""
        slow = self.drift.slow((time[:1] if grid else time) // DAY)
        return self.click(actors, items, time, grid=grid, page=page) * _in_time(slow)

    def click(
        self, actors: Rows, items: Rows, time: Rows, *, grid: bool = False, page: Page | None = None
    ) -> Floats:
        """Compute P(click | examined), however late; on the page of that user and time, or on another."""
        day = time // DAY
        taste = turned(self.actors["taste"][actors], self.drift.concept(day), self._turned)
        device, site = self.page(actors, time) if page is None else page
        openness, bot = self.actors["openness"][actors], self.actors["bot"][actors]
        evening = local_hour(time, OFFSET_HOURS[self.actors["city"][actors]]) >= 18
        ad = {name: self.items[name][items] for name in ("category", "product", "born", "paid")}
        if grid:
            match = product(taste, self.items["vector"][items].T)
            device, site, time, day = (each[:, None] for each in (device, site, time, day))
            openness, bot, evening = openness[:, None], bot[:, None], evening[:, None]
        else:
            match = np.einsum("nd,nd->n", taste, self.items["vector"][items])
        concept = self.drift.concept(day)
        quality = (1 - concept) * self.items["quality"][items] + concept * self.items["other_quality"][items]
        worn = np.minimum((time - ad["born"]) / (self.params.longest_days * DAY), 1.0)
        place = self._site_level[site] + self._site_topic[site, ad["category"]]
        fit = self._device_product[device, ad["product"]] + 0.3 * evening * (ad["category"] < 3)
        weekly = 0.2 * self.drift.level("season", day) * weekend(day)
        logit = 1.8 * match + quality + place + fit + openness - 0.5 * worn + weekly - 3.9
        return np.where(bot, np.where(ad["paid"], 0.6, 0.01), 1 / (1 + np.exp(-logit)))

    def page(self, actors: Rows, time: Rows) -> Page:
        """Tell device and site: mostly the user's own device, the same within an hour; a site a request."""
        hourly, moment = _chance(actors, time // HOUR, 1), _chance(actors, time, 2)
        shift = self.drift.level("season", time // DAY) * weekend(time // DAY)
        other = np.searchsorted(np.cumsum(DEVICE_SHARE)[:-1], _chance(actors, time // HOUR, 3))
        device = np.where(hourly < 0.12 + 0.1 * shift, other, self.actors["device"][actors])
        return device, np.searchsorted(np.cumsum(self._site_share)[:-1], moment)


def _in_time(slow: Floats) -> Floats:
    """Compute P(a click comes within the attribution window), clicks coming `slow` times as late as usual.

    Quick ones are in time: but for one in ten billion, or in two hundred million where they take twice as long.
    """
    late: Floats = CLICK_DELAY.slow_share * np.exp(-ATTRIBUTION / (CLICK_DELAY.slow_mean * slow))
    return 1 - late


def _chance(actors: Rows, time: Rows, salt: int) -> Floats:
    """Draw a number in [0, 1) that depends on user, time and salt alone."""
    mixed = actors.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + time.astype(np.uint64)
    return uniform(mix(mixed + np.uint64(salt * 0xD1B54A32D192ED03 % 2**64)))
