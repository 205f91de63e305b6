"""A challenger on trial: who meets it, what happens when it fails, and that nobody sees it in the shadow."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from served_stub import NAME, NOON, UNFIT, VIDEOS, Ask, Shop, materialized, order, register, shown

from pipelines.experiments import running
from pipelines.experiments.running import CONTROL, TREATMENT, Running
from pipelines.experiments.tally import Tally, read_tally
from pipelines.serving.service import Decision
from pipelines.settings import Canary
from pipelines.stores.registry import Version

SHADOW, FEW, HALF = 0, 1, 3  # the first days of the stages
USERS = [f"u{number}" for number in range(400)]


def on_trial(shop: Shop, turn: int, day: int) -> Version:
    """Serve turn 1 as the champion, and put another on trial."""
    champion = shop.publish(1)
    challenger = register(shop.registry, shop.ws.root / f"trained-{turn}", turn)
    write(shop, challenger, champion, day)
    assert shop.service.refresh()
    return challenger


def write(shop: Shop, challenger: Version, champion: Version, day: int, **more: Any) -> None:
    found = Running(
        case=NAME, unit="user_id", canary=Canary(), challenger=challenger, champion=champion.number,
        started=NOON, day=day, **more,
    )  # fmt: skip
    running.write(shop.ws, found)


def ask(shop: Shop, users: list[str] = USERS) -> list[Decision]:
    return shop.service.decide([Ask(user_id=user) for user in users])


def items(decision: Decision) -> list[Any]:
    return [place.item["video_id"] for place in decision.places]


def test_each_arm_is_answered_by_its_own_model_and_the_log_says_which(shop: Shop) -> None:
    on_trial(shop, 2, HALF)
    decisions = ask(shop)
    arms = Counter(each.arm for each in decisions)
    assert arms.keys() == {CONTROL, TREATMENT}
    assert 160 < arms[TREATMENT] < 240, "half, give or take four standard deviations"
    for each in decisions:
        told = ("challenger", order(2)) if each.arm == TREATMENT else ("champion", order(1))
        assert (each.policy, items(each), each.fallback) == (*told, ())
    requests, impressions = shop.logged("requests"), shop.logged("impressions")
    logged = dict(requests.select("request_id", "arm").iter_rows())
    assert logged == {each.request_id: each.arm for each in decisions}
    assert dict(requests.select("request_id", "user_id").iter_rows()) == {
        each.request_id: user for each, user in zip(decisions, USERS, strict=True)
    }
    assert set(impressions.select("request_id", "arm").iter_rows()) == set(logged.items())
    assert shop.service.counts["arm_treatment"] == arms[TREATMENT]


def test_nobody_changes_arms_as_the_stages_open(shop: Shop) -> None:
    challenger = on_trial(shop, 2, FEW)
    few = {user: each.arm for user, each in zip(USERS, ask(shop), strict=True)}
    assert 4 <= Counter(few.values())[TREATMENT] <= 40, "a twentieth, give or take four standard deviations"
    stock = shop.service.state.stock
    write(shop, challenger, challenger, HALF)
    assert shop.service.refresh()
    assert shop.service.state.stock is stock, "a new stage needs no new stock"
    half = {user: each.arm for user, each in zip(USERS, ask(shop), strict=True)}
    assert None in few.values() and None not in half.values()
    assert {user: half[user] for user, arm in few.items() if arm} == {u: a for u, a in few.items() if a}


@pytest.mark.parametrize("turn", [-1, UNFIT])
def test_a_challenger_that_fails_gives_way_to_the_champion_and_is_counted(shop: Shop, turn: int) -> None:
    challenger = on_trial(shop, turn, HALF)
    decisions = ask(shop)
    treated = [each for each in decisions if each.arm == TREATMENT]
    assert {each.policy for each in decisions} == {"champion"}
    assert {tuple(items(each)) for each in decisions} == {tuple(order(1))}
    assert {each.fallback for each in treated} == {("champion",)}
    assert {each.fallback for each in decisions if each.arm == CONTROL} == {()}
    shop.service.refresh()
    tally = read_tally(shop.ws, challenger.number)
    assert tally == Tally(
        asked=len(treated), failed=len(treated), treated=len(treated), treated_failed=len(treated)
    )
    assert (
        tally.broken(0.01)
        == f"it failed to answer {len(treated)} of {len(treated)} requests of users who met it"
    )


def test_in_the_shadow_the_challenger_answers_and_nobody_sees_it(shop: Shop) -> None:
    challenger = on_trial(shop, 2, SHADOW)
    decisions = ask(shop)
    assert {(each.policy, each.arm, tuple(items(each))) for each in decisions} == {
        ("champion", None, tuple(order(1)))
    }
    assert shop.logged("requests")["arm"].null_count() == len(USERS)
    shop.service.refresh()
    tally = read_tally(shop.ws, challenger.number)
    assert (tally.asked, tally.failed, tally.compared, tally.agreed) == (len(USERS), 0, len(USERS), 0)
    assert tally.microseconds > 0 and not tally.broken(0.01)


@pytest.mark.parametrize("turn", [-1, UNFIT])
def test_what_fails_in_the_shadow_is_counted_and_harms_nobody(shop: Shop, turn: int) -> None:
    challenger = on_trial(shop, turn, SHADOW)
    assert {(each.policy, each.fallback) for each in ask(shop)} == {("champion", ())}
    shop.service.refresh()
    assert read_tally(shop.ws, challenger.number) == Tally(asked=len(USERS), failed=len(USERS))


def test_services_count_apart_and_their_counts_add_up(shop: Shop) -> None:
    challenger = on_trial(shop, 1 + VIDEOS, SHADOW)  # another model, the same answers
    ask(shop, USERS[:10])
    shop.service.refresh()
    ask(shop, USERS[:10])
    shop.service.close()
    (file,) = (shop.ws.root / "challenger").glob("*.json")
    file.with_name(f"{challenger.number}-other.json").write_text(file.read_text())
    tally = read_tally(shop.ws, challenger.number)
    assert (tally.asked, tally.compared, tally.agreed) == (40, 40, 40)


def test_an_experiment_that_ends_leaves_the_champion_alone(shop: Shop) -> None:
    challenger = on_trial(shop, 2, HALF)
    write(shop, challenger, challenger, HALF, ended=NOON)
    assert shop.service.refresh()
    assert {(each.policy, each.arm) for each in ask(shop)} == {("champion", None)}
    assert shop.service.state.trial is None
    assert [rung.policy for rung in shop.service.state.rungs] == ["champion", "heuristic"]


def test_a_challenger_that_is_promoted_answers_everybody_and_the_old_one_stands_behind_it(shop: Shop) -> None:
    challenger = on_trial(shop, 2, HALF)
    shop.registry.crown(challenger)
    assert shop.service.refresh(), "even before the experiment's file says that it has ended"
    assert {(each.policy, each.arm, tuple(items(each))) for each in ask(shop)} == {
        ("champion", None, tuple(order(2)))
    }
    assert [rung.policy for rung in shop.service.state.rungs] == ["champion", "previous", "heuristic"]


def test_newer_features_reach_both_arms(shop: Shop) -> None:
    on_trial(shop, 2, HALF)
    materialized(shop.ws, NOON + timedelta(days=1))
    assert shop.service.refresh()
    assert Counter(each.arm for each in ask(shop)).keys() == {CONTROL, TREATMENT}


def test_a_spoiled_file_is_told_and_what_stood_goes_on(shop: Shop) -> None:
    on_trial(shop, 2, HALF)
    running.path(shop.ws).write_text("{")
    assert not shop.service.refresh()
    assert "is no JSON" in shop.service.state.problems[0]
    assert shop.service.state.trial is not None


def test_the_arm_is_told_over_http(shop: Shop) -> None:
    on_trial(shop, 2, HALF)
    with shop.client() as client:
        answers = [client.post(f"/v1/{NAME}/decide", json={"user_id": user}).json() for user in USERS[:20]]
        told = client.get("/metrics").text
    assert {each["arm"] for each in answers} == {CONTROL, TREATMENT}
    for each in answers:
        assert list(shown(each)) == order(2 if each["arm"] == TREATMENT else 1)
    assert f'loop_service_total{{case="{NAME}",what="arm_treatment"}}' in told


def test_what_the_shadow_did_well_hides_no_failure_of_those_who_met_it() -> None:
    shadow = Tally(asked=100_000)
    met = Tally(asked=5_000, failed=1_000, treated=5_000, treated_failed=1_000)
    assert (shadow + met).broken(0.01) == "it failed to answer 1,000 of 5,000 requests of users who met it"
    assert Tally(asked=1_000, failed=50).broken(0.01) == "it failed to answer 50 of 1,000 requests"
    assert Tally(asked=1_000, failed=9).broken(0.0) is None, "one bad request is no broken model"
