"""What an action on a post must tell over the wire, and that it is checked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.cases.harmful_content.serving import SERVING
from pipelines.serving.wire import actions_model

MODEL = actions_model("harmful_content", SERVING)


def sent(word: str, **told: Any) -> dict[str, Any]:
    return {"actions": [{"action_id": "a", "token": "t", "action": word, **told}]}


@pytest.mark.parametrize("word", ["report", "vote", "verdict", "outcome"])
def test_who_saw_a_post_says_which_harms_it_has(word: str) -> None:
    for harms in ([], ["spam"], ["hate", "violence"]):
        assert MODEL.model_validate(sent(word, harms=harms)).actions[0].harms == harms  # type: ignore[attr-defined]
    for untold in ({}, {"harms": None}):
        with pytest.raises(ValidationError, match=f"a {word} tells the harms"):
            MODEL.model_validate(sent(word, **untold))


@pytest.mark.parametrize("harms", ["spam", ["jest"], ["spam"] * 5, [1]])
def test_harms_are_those_of_the_system(harms: Any) -> None:
    with pytest.raises(ValidationError, match="harms"):
        MODEL.model_validate(sent("verdict", harms=harms))


def test_an_appeal_need_not_name_any() -> None:
    assert MODEL.model_validate(sent("appeal")).actions[0].harms is None  # type: ignore[attr-defined]
