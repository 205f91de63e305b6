"""Two-tower retrieval: users and items as unit vectors whose product ranks a whole catalogue.

In-batch softmax with sampling-bias correction (Yi et al., RecSys 2019): an item's chance to be another
row's negative grows with its frequency q, so log q is taken off its logit. The item tower adds an id
vector to one computed from content; ids are dropped at random while learning (DropoutNet, Volkovs et
al. 2017), so that an item without history stands on its content alone. Learning runs in torch on one
thread, which makes it the same bytes everywhere; answering needs NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


NEARBY_BATCHES = 8


@dataclass(frozen=True)
class TowerOptions:
    """How the towers are built and taught. `steps` bounds the time: steps = min(steps, epochs · n / batch)."""

    dimensions: int = 32
    hidden: int = 64
    history: int = 30
    temperature: float = 0.1
    learning_rate: float = 0.002
    batch: int = 512
    epochs: float = 6.0
    steps: int = 800
    id_dropout: float = 0.3


@dataclass(frozen=True)
class Lessons:
    """What the towers learn from: positives, sorted by user, then time.

    `users`, `items` (n,) are row numbers of `user_features` (users, f) and `content` (items, c); `ages`
    (n,) the item's age feature at that moment, `times` (n,) when it was. `ordered` says that only earlier
    positives of the user may be seen as history, and that a batch holds positives of about one time:
    its negatives could then have been chosen instead. Otherwise all others are history, and batches are
    drawn from everything.
    """

    users: Ints
    items: Ints
    ages: Floats
    times: NDArray[np.float64]
    content: Floats
    user_features: Floats
    ordered: bool


class TwoTower:
    """Fitted towers; `weights` are float32 arrays by name."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self.weights = dict(weights)

    def items(self, content: Floats, ages: Floats, ids: Ints) -> Floats:
        """Compute item vectors, shape (n, d); `ids` are known rows, -1 for items never seen in learning."""
        w = self.weights
        known = (ids >= 0)[:, None]
        own = np.where(known, w["item_id"][np.maximum(ids, 0)], 0.0)
        inner = np.maximum(np.column_stack([content, ages]) @ w["item_in"] + w["item_in_bias"], 0.0)
        return _unit(own + inner @ w["item_out"])

    def histories(self, content: Floats, ids: Ints) -> Floats:
        """Compute what each item adds to a user's history, shape (n, d)."""
        w = self.weights
        known = (ids >= 0)[:, None]
        return np.where(known, w["history_id"][np.maximum(ids, 0)], 0.0) + content @ w["history_content"]

    def users(self, history: Floats, length: Floats, features: Floats) -> Floats:
        """Compute user vectors, shape (n, d), from the mean of `histories` and how many there were."""
        w = self.weights
        known = np.column_stack([history, np.log1p(length), features]).astype(np.float32)
        inner = np.maximum(known @ w["user_in"] + w["user_in_bias"], 0.0)
        return _unit(history + inner @ w["user_out"])

    def save(self, path: Path) -> None:
        """Write the weights (safetensors)."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(self.weights[name]) for name in sorted(self.weights)}, path)

    @classmethod
    def load(cls, path: Path) -> TwoTower:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        return cls(load_file(path))


def fit_two_tower(lessons: Lessons, options: TowerOptions, seed: int) -> tuple[TwoTower, list[float]]:
    """Teach the towers; return them and the loss of some twenty stretches of learning."""
    import torch

    weights = _initial(lessons, options, seed)
    frequency = local_frequency(lessons, options.batch * NEARBY_BATCHES)
    with _one_thread():
        parameters = {name: torch.nn.Parameter(torch.from_numpy(each)) for name, each in weights.items()}
        content = torch.from_numpy(np.ascontiguousarray(lessons.content, dtype=np.float32))
        log_frequency = torch.from_numpy(np.log(frequency).astype(np.float32))
        steps = _steps(len(lessons.items), options)
        optimiser = torch.optim.Adam(parameters.values(), lr=options.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - 0.9 * step / max(steps, 1))
        losses = []
        for batch in _batches(lessons, options, steps, seed):
            optimiser.zero_grad(set_to_none=True)
            users, items = _towers(parameters, content, batch)
            logits = users @ items.T / options.temperature
            rows = torch.from_numpy(batch["rows"])
            loss = softmax_loss(logits, torch.from_numpy(batch["items"]), log_frequency[rows])
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        fitted = {name: each.detach().numpy().copy() for name, each in parameters.items()}
    # An id that was never a positive has only its random start: content must speak for it.
    unseen = np.bincount(lessons.items, minlength=len(lessons.content)) == 0
    fitted["item_id"][unseen] = 0.0
    fitted["history_id"][unseen] = 0.0
    parts = np.array_split(np.array(losses), min(20, len(losses))) if losses else []
    return TwoTower(fitted), [float(part.mean()) for part in parts]


def softmax_loss(logits: Any, items: Any, log_frequency: Any) -> Any:
    """Compute the corrected in-batch softmax loss of logits (n, n), whose diagonal holds the positives.

    logit(i, j) - log q(j); a negative that is the row's own item is masked. `items` (n,) are the
    columns' items, `log_frequency` (n,) the log probability of each to be drawn into the batch.
    """
    import torch

    corrected = logits - log_frequency[None, :]
    same = (items[:, None] == items[None, :]) & ~torch.eye(len(items), dtype=torch.bool)
    corrected = corrected.masked_fill(same, float("-inf"))
    return torch.nn.functional.cross_entropy(corrected, torch.arange(len(items)))


def local_frequency(lessons: Lessons, nearby: int) -> NDArray[np.float64]:
    """Estimate how frequent each positive's item is among the `nearby` positives around it in time, (n,).

    Without order, among all of them. What is watched changes with time, and so does the chance to be
    drawn into a batch (Yi et al. estimate it from the stream, for the same reason).
    """
    count = len(lessons.items)
    if not lessons.ordered or count <= nearby:
        return (np.bincount(lessons.items, minlength=len(lessons.content)) / max(count, 1))[lessons.items]
    turn = np.empty(count, dtype=np.int64)
    turn[np.lexsort((np.arange(count), lessons.times))] = np.arange(count)
    low = np.clip(turn - nearby // 2, 0, count - nearby)
    known = np.sort(lessons.items * count + turn)
    within = np.searchsorted(known, lessons.items * count + low + nearby) - np.searchsorted(
        known, lessons.items * count + low
    )
    return within / nearby


def _steps(lessons: int, options: TowerOptions) -> int:
    return min(options.steps, int(np.ceil(options.epochs * lessons / options.batch))) if lessons > 1 else 0


def _initial(lessons: Lessons, options: TowerOptions, seed: int) -> dict[str, Floats]:
    rng = np.random.default_rng([seed, 1])
    items, content = lessons.content.shape
    d, h, f = options.dimensions, options.hidden, lessons.user_features.shape[1]

    def draw(rows: int, columns: int, scale: float) -> Floats:
        return (scale * rng.standard_normal((rows, columns))).astype(np.float32)

    return {
        "item_id": draw(items, d, 0.1),
        "item_in": draw(content + 1, h, (1.0 / (content + 1)) ** 0.5),
        "item_in_bias": np.zeros(h, dtype=np.float32),
        "item_out": draw(h, d, (1.0 / h) ** 0.5),
        "history_id": draw(items, d, 0.1),
        "history_content": draw(content, d, 0.1),
        "user_in": draw(d + 1 + f, h, (1.0 / (d + 1 + f)) ** 0.5),
        "user_in_bias": np.zeros(h, dtype=np.float32),
        "user_out": draw(h, d, (1.0 / h) ** 0.5),
    }


def _batches(
    lessons: Lessons, options: TowerOptions, steps: int, seed: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Draw batches of positives with their histories, in passes over all of them."""
    rng = np.random.default_rng([seed, 2])
    first = np.searchsorted(lessons.users, lessons.users)
    length = np.searchsorted(lessons.users, lessons.users, side="right") - first
    reach = np.arange(1, options.history + 1)
    waiting: list[Ints] = []
    for _ in range(steps):
        if not waiting:
            waiting = _pass(lessons, options.batch, rng)
        rows = waiting.pop()
        place = (rows - first[rows])[:, None]
        if lessons.ordered:
            other, held = place - reach, place >= reach
        else:
            other, held = (place + reach) % length[rows][:, None], reach < length[rows][:, None]
        history = lessons.items[(first[rows][:, None] + np.where(held, other, 0))[held]]
        yield {
            "rows": rows,
            "items": lessons.items[rows],
            "ages": lessons.ages[rows],
            "features": lessons.user_features[lessons.users[rows]],
            "history": history,
            "length": held.sum(axis=1),
            "kept": (rng.random(len(rows)) >= options.id_dropout).astype(np.float32),
        }


def _pass(lessons: Lessons, batch: int, rng: np.random.Generator) -> list[Ints]:
    """Divide all positives into batches: of about one time where there is an order, else at random."""
    count = len(lessons.items)
    if lessons.ordered:
        turn = np.empty(count)
        turn[np.lexsort((np.arange(count), lessons.times))] = np.arange(count)
        order = np.argsort(turn + batch * rng.standard_normal(count), kind="stable")
    else:
        order = rng.permutation(count)
    parts = np.array_split(order, max(1, count // batch))
    return [parts[each] for each in rng.permutation(len(parts))]


def _towers(p: Mapping[str, Any], content: Any, batch: Mapping[str, NDArray[Any]]) -> tuple[Any, Any]:
    """Compute the batch's user and item vectors in torch: the same arithmetic as `TwoTower`."""
    import torch

    items = torch.from_numpy(batch["items"])
    known = torch.cat([content[items], torch.from_numpy(batch["ages"].astype(np.float32))[:, None]], dim=1)
    own = p["item_id"][items] * torch.from_numpy(batch["kept"])[:, None]
    item = own + torch.relu(known @ p["item_in"] + p["item_in_bias"]) @ p["item_out"]
    distinct, where = np.unique(batch["history"], return_inverse=True)
    rows = torch.from_numpy(distinct)
    added = p["history_id"][rows] + content[rows] @ p["history_content"]
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(batch["length"])[:-1]]))
    history = torch.nn.functional.embedding_bag(torch.from_numpy(where), added, offsets, mode="mean")
    length = torch.from_numpy(np.log1p(batch["length"]).astype(np.float32))[:, None]
    features = torch.from_numpy(batch["features"].astype(np.float32))
    inner = torch.cat([history, length, features], dim=1) @ p["user_in"] + p["user_in_bias"]
    user = history + torch.relu(inner) @ p["user_out"]
    normal = torch.nn.functional.normalize
    return normal(user, dim=1), normal(item, dim=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread, deterministically, and restore what was set before."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def _unit(vectors: NDArray[Any]) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)
