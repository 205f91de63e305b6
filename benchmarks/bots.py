"""Measure how far a few accounts steer the next model, with and without the limits of configs/.

    python benchmarks/bots.py [--users 1000] [--seed 7] [--address-pair 2] [--target middling|much|both]

A simulated world's log is kept, and bots (1 % of its users) join it for three weeks: each asks for slates, is
shown the target among videos that others were shown that day, and acts on it by its plan. For each target (a
video of middling, or of much, exposure in the clean run) and plan a model is trained on the log. `lift` is the
target's share of the places of all top tens that the next week's people are given, over that of the clean run;
`nDCG` is measured on the same people's explored slates. Goals: lift at most 1.2, nDCG at most 1 % down. What a
changed log does to what is shown later is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from pipelines import catalog
from pipelines.case_study import Batch
from pipelines.cases.video_recommendation.logged import prepare
from pipelines.learning.measures import ndcg_of_rows
from pipelines.settings import CaseParams, Limits, Project
from pipelines.steps.features import build_features
from pipelines.steps.ingest import ingest
from pipelines.steps.split import split
from pipelines.steps.train import train
from pipelines.stores.models import load_model
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace

CASE = catalog.case("video_recommendation")
DAY = timedelta(days=1)
PLACES = 10
ATTACK_DAYS, TEST_DAYS = 21, 7


@dataclass(frozen=True)
class Plan:
    """What each bot does: slates a day, and how often it acts on the target at each sight of it.

    `most` sights of the target at all; it acts on a share `other` of the rest of its slates, as people do.
    `accounts` is the bots' number as a share of the users; all of them come from one `address`, or none is known.
    """

    name: str
    slates: int = 1
    actions: int = 1
    most: int = 10_000
    other: float = 0.0
    accounts: float = 0.01
    address: str | None = None


PLANS = (
    Plan("hammer: 20 slates a day", slates=20),
    Plan("repeat: 20 actions a sight", actions=20),
    Plan("daily: once a day"),
    Plan("below the limits, acts like people", most=2, other=0.2),
    Plan("5 % of users, one address", most=2, other=0.2, accounts=0.05, address="one"),
)


class Log:
    """A clean world's batches, kept in files."""

    def __init__(self, params: CaseParams, folder: Path) -> None:
        self.params, self.folder = params, folder
        self.start = params.as_of - timedelta(days=params.window.train_days + params.window.evaluate_days)
        world = catalog.world(CASE.name)
        settings = world.params.model_validate(params.world)
        days = (params.as_of - self.start).days
        for number, batch in enumerate(world.rows(settings, params.seed, self.start, days, folder / "state")):
            batch.rows.write_parquet(folder / f"{number:04d}-{batch.table}.parquet")

    def batches(self) -> Iterator[Batch]:
        """Yield them in order."""
        for path in sorted(self.folder.glob("*.parquet")):
            yield Batch(path.stem[5:], pl.read_parquet(path), path.stem)

    def table(self, name: str) -> pl.DataFrame:
        """Read one table whole."""
        return pl.concat([pl.read_parquet(path) for path in sorted(self.folder.glob(f"*-{name}.parquet"))])


@dataclass(frozen=True)
class Outcome:
    """What came of one log: the model's top tens and its figure, and what ingest withheld."""

    share: Mapping[str, float]
    ndcg: float
    withheld: int


def bots(log: Log, plan: Plan, target: str, users: int, seed: int) -> list[Batch]:
    """Write what the bots add to the log, from their first day until its end."""
    rng = np.random.default_rng([seed, len(plan.name)])
    first = log.params.as_of - (ATTACK_DAYS + TEST_DAYS) * DAY
    shown = log.table("impressions").select("video_id", day=pl.col("impression_time").dt.truncate("1d"))
    others_of = shown.filter(pl.col("video_id") != target).group_by("day").agg("video_id")
    daily = {day: np.array(videos) for day, videos in others_of.iter_rows()}
    impressions: list[dict[str, Any]] = []
    actions: list[dict[str, Any]] = []
    for bot in range(round(plan.accounts * users)):
        sights = 0
        for day in range(ATTACK_DAYS + TEST_DAYS):
            for slate in range(plan.slates):
                time = first + day * DAY + float(rng.uniform(0, 86_000)) * timedelta(seconds=1)
                others = rng.choice(daily[first + day * DAY], PLACES - 1).tolist()
                wanted = sights < plan.most
                videos = [target, *others] if wanted else [others[0], *others]
                for place, video in enumerate(videos, start=1):
                    name = f"bot{bot}-{day}-{slate}-{place}"
                    row = {"impression_id": name, "user_id": f"bot{bot}", "video_id": video, "time": time}
                    impressions.append(row | {"position": place})
                    times = plan.actions if wanted and place == 1 else int(rng.random() < plan.other)
                    actions += [row | {"number": number} for number in range(times)]
                sights += wanted
    return [_impressions(impressions), _actions(actions, plan.address)]


def _impressions(rows: list[dict[str, Any]]) -> Batch:
    found = pl.DataFrame(rows).rename({"time": "impression_time"})
    return _batch("impressions", found.with_columns(
        request_id=pl.col("impression_id").str.replace(r"-\d+$", ""), propensity=0.5, explored=False,
        arrived_at="impression_time",
    ))  # fmt: skip


def _actions(rows: list[dict[str, Any]], address: str | None) -> Batch:
    each = pl.DataFrame(rows).with_columns(
        action_time=pl.col("time") + timedelta(minutes=3), address=pl.lit(address, pl.String)
    )
    kinds = [
        each.with_columns(
            action=pl.lit(word), value=pl.lit(1.0 if word == "watch" else None, pl.Float64),
            action_id=pl.format("{}-{}-{}", "impression_id", pl.lit(word), "number"),
        )
        for word in ("click", "watch")
    ]  # fmt: skip
    return _batch("actions", pl.concat(kinds).with_columns(arrived_at="action_time"))


def _batch(table: str, rows: pl.DataFrame) -> Batch:
    schema = polars_schema(CASE.table(table).schema)
    absent = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in rows.columns]
    return Batch(table, rows.with_columns(absent).select(schema.names()).cast(schema), "bots")


def learn(log: Log, added: Sequence[Batch], limits: Limits | None, project: Project) -> Outcome:
    """Train on the log and what was added to it, and let the model answer the week after."""
    params, platform = log.params, project.platform
    with TemporaryDirectory(prefix="loop-bench-") as scratch:
        ws = Workspace(Path(scratch) / "runs" / CASE.name)
        batches = [*log.batches(), *added]
        done = ingest(CASE, ws, batches, source="world", as_of=params.as_of, limits=limits)
        build_features(CASE, ws, params.as_of)
        train(CASE, ws, params.as_of, params, platform, "logged")
        model: Any = load_model(CASE, ws.model)
        divided = split(CASE, ws, params.as_of, params, platform, "logged")
        found = prepare(divided.train, divided.test)
        labels = found.rows["label"].cast(pl.Float64).to_numpy()
        scores = np.asarray(model.predict(found.rows), dtype=np.float64)
        ndcg = ndcg_of_rows(found.group, scores, labels, PLACES)
        listed = [
            day.asked.catalogue["video_id"].gather(places[places >= 0])
            for day in found.days
            for places in [model.rank(day.asked, PLACES)]
        ]
    counts = pl.concat(listed).alias("video").value_counts()
    share = {video: count / len(found.units) for video, count in counts.iter_rows()}
    return Outcome(share, float(ndcg.mean()), sum(done.limited.values()))


def targets(log: Log, clean: Outcome) -> dict[str, str]:
    """Choose of the videos that came just before the bots the most, and a middling, recommended one."""
    first = log.params.as_of - (ATTACK_DAYS + TEST_DAYS) * DAY
    new = log.table("videos").filter(pl.col("published_at").is_between(first - 3 * DAY, first))["video_id"]
    known = sorted((clean.share[video], video) for video in new.unique() if video in clean.share)
    return {"much": known[-1][1], "middling": known[len(known) // 2][1]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--address-pair", type=int, default=2, help="actions of a kind on a video from an address"
    )
    parser.add_argument("--target", choices=("middling", "much", "both"), default="middling")
    asked = parser.parse_args(arguments)
    project = Project.find()
    params = project.case_params(CASE.name)
    world = {**params.world, "users": asked.users, "videos": asked.users * 3 // 8}
    params = params.model_copy(
        update={"world": world, "seed": asked.seed, "as_of": datetime(2026, 3, 1, tzinfo=UTC)}
    )
    limits = project.case_config(CASE.name).limits
    actions = limits.actions.model_copy(update={"address_pair": asked.address_pair})
    limits = limits.model_copy(update={"actions": actions})
    with TemporaryDirectory(prefix="loop-bench-") as folder:
        log = Log(params, Path(folder))
        clean, limited = learn(log, [], None, project), learn(log, [], limits, project)
        sys.stdout.write(f"clean world: nDCG {clean.ndcg:.4f}; with limits {limited.ndcg:.4f}, ")
        sys.stdout.write(f"{limited.withheld} rows withheld\n")
        sys.stdout.write(
            f"{'target':9} {'clean':>6} {'plan':36} {'limits':7} {'lift':>6} {'nDCG':>7} {'withheld':>9}\n"
        )
        for how, target in targets(log, clean).items():
            for plan in PLANS if asked.target in (how, "both") else ():
                added = bots(log, plan, target, asked.users, asked.seed)
                for name, most, base in (("off", None, clean), ("on", limits, limited)):
                    found = learn(log, added, most, project)
                    lift = found.share.get(target, 0.0) / base.share[target]
                    change = found.ndcg / base.ndcg - 1
                    sys.stdout.write(
                        f"{how:9} {base.share[target]:6.3f} {plan.name:36} {name:7} {lift:6.2f} {change:+7.2%}"
                        f" {found.withheld:9,}\n"
                    )
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
