"""Clients of a served system that are as bad as the world: retries, duplicates, delays, disorder, cut connections."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

import numpy as np

Json = Mapping[str, Any]
SECONDS, PAUSE = 20.0, 0.02
MOST = 12


@dataclass
class Memory:
    """What all clients know together: their answers, what they sent, and what was acknowledged."""

    case: str
    requests: Sequence[Json]
    words: Sequence[str]
    answers: list[Json] = field(default_factory=list)
    sent: dict[str, Json] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    forged: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client(threading.Thread):
    """One client: it asks and acts until it is told to stop; an action is sent until it is acknowledged."""

    def __init__(self, url: str, memory: Memory, rng: np.random.Generator) -> None:
        super().__init__(daemon=True)
        self.address, self.memory, self.rng = urlsplit(url).netloc, memory, rng
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            if not self.memory.answers or self.rng.random() < 0.4:
                self.ask()
            else:
                self.act()

    def ask(self) -> None:
        """Ask; what comes back is remembered, what is cut off is asked again some other time."""
        known = self.memory
        reply = self.exchange("decide", known.requests[self.rng.integers(len(known.requests))])
        if reply is not None:
            with known.lock:
                known.answers.append(reply)

    def act(self) -> None:
        """Send a batch of new actions, of such as nobody acknowledged, and of such as somebody did."""
        known = self.memory
        with known.lock:
            for _ in range(self.rng.integers(1, 4)):
                self.invent()
            due = self.some(sorted(known.waiting), MOST)
            again = self.some(sorted(known.acknowledged), 2)
            batch = [*due, *again, *due[: self.rng.integers(0, 2)]]  # the same twice in a batch
            known.counts["retried"] += sum(known.counts[f"tried {name}"] > 0 for name in due)
            known.counts.update(f"tried {name}" for name in due)
        if not batch:
            return
        self.rng.shuffle(batch)
        reply = self.exchange("actions", {"actions": [known.sent[name] for name in batch]})
        if reply is None:
            return
        refused = {each["action_id"] for each in reply["refused"]}
        with known.lock:
            good = [name for name in batch if name not in known.forged]
            if reply["accepted"] != len(good) or refused != known.forged & set(batch):
                known.strange.append(f"{reply} to {batch}")
            known.acknowledged |= set(good)
            known.waiting -= set(batch)

    def invent(self) -> None:
        """Let a user do something; now and then somebody forges."""
        known, rng = self.memory, self.rng
        answer = known.answers[rng.integers(len(known.answers))]
        place = answer["places"][rng.integers(len(answer["places"]))]
        name = f"action-{len(known.sent)}"
        action = {
            "action_id": name,
            "token": place["token"],
            "action": known.words[rng.integers(len(known.words))],
            "value": round(float(rng.random()), 3),
        }
        if rng.random() < 0.5:  # told by the client's own clock; else it is when it first arrives
            action["action_time"] = answer["time"]
        if rng.random() < 0.03:
            action["token"] = place["token"][:-4] + "AAAA"
            known.forged.add(name)
        known.sent[name] = action
        known.waiting.add(name)

    def some(self, names: Sequence[str], most: int) -> list[str]:
        """Draw some names, in any order: the others are delayed."""
        count = min(len(names), int(self.rng.integers(0, most + 1)))
        return [str(name) for name in self.rng.choice(names, count, replace=False)] if count else []

    def exchange(self, what: str, body: Json) -> Json | None:
        """Send a body and wait for the reply; None where the connection is cut, by us or by a kill."""
        connection = HTTPConnection(self.address, timeout=SECONDS)
        content = json.dumps(body).encode()
        cut = self.rng.random()
        try:
            connection.putrequest("POST", f"/v1/{self.memory.case}/{what}")
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(len(content)))
            connection.endheaders(content[: len(content) // 2] if cut < 0.04 else content)
            if cut < 0.14:  # in the middle of the body, or before the reply
                self.count("cut")
                return None
            reply = connection.getresponse()
            said: Json = json.loads(reply.read())
        except ConnectionRefusedError:
            time.sleep(PAUSE)
            return None
        except (OSError, HTTPException, ValueError):
            self.count("broken")
            return None
        finally:
            connection.close()
        self.count("replies")
        if reply.status != 200:
            with self.memory.lock:
                self.memory.strange.append(f"{reply.status} to {what}: {said}")
            return None
        return said

    def count(self, what: str) -> None:
        with self.memory.lock:
            self.memory.counts[what] += 1
