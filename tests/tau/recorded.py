"""Are the rebuilt tools right? Compares them with what tau-bench recorded: tool answers and hashes of end states. Knows no policy.

Two witnesses that we did not write: the answers that the recorded tools gave in 200 airline and 69 retail conversations, and the
published SHA-256 of the whole airline database after the reference actions of each of its first release's tasks.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.tau import data
from tests.tau.world import airline, retail
from tests.tau.world.records import Records, Refused

SKIPPED = frozenset({"think"})  # changes nothing and answers nothing


@dataclass
class Agreement:
    """By tool: how often ours answered as recorded, and where it did not."""

    calls: Counter[str] = field(default_factory=Counter)
    equal: Counter[str] = field(default_factory=Counter)
    differ: list[dict[str, Any]] = field(default_factory=list)

    def note(self, tool: str, same: bool, **what: Any) -> None:
        self.calls[tool] += 1
        self.equal[tool] += same
        if not same:
            self.differ.append({"tool": tool, **what})

    @property
    def share(self) -> float:
        return sum(self.equal.values()) / max(1, sum(self.calls.values()))


def answered(tools: Mapping[str, Any], records: Records, tool: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return tools[tool](records, arguments)
    except Refused as refusal:
        return str(refusal)


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_recorded(value: Any) -> Any:
    """The recorded release called a user's `state` a `province`; nothing else was renamed since."""
    if isinstance(value, dict) and "address" in value and "payment_methods" in value:
        address = {("province" if key == "state" else key): each for key, each in value["address"].items()}
        return {key: address if key == "address" else each for key, each in value.items() if key != "user_id"}
    return value


def airline_answers() -> Agreement:
    """Every recorded airline tool call, made again in the recorded order on a fresh world per conversation."""
    found = Agreement()
    records = Records(data.records("airline"))
    for row in data.trajectories():
        records.reset()
        calls: dict[str, Any] = {}
        for message in row["traj"]:
            calls |= {call["id"]: call["function"] for call in message.get("tool_calls") or ()}
            if message["role"] != "tool" or message["name"] in SKIPPED:
                continue
            arguments = json.loads(calls[message["tool_call_id"]]["arguments"])
            ours = as_recorded(answered(airline.AS_RECORDED, records, message["name"], arguments))
            theirs = message["content"]
            same = ours == parsed(theirs) or str(ours) == theirs
            found.note(message["name"], same, arguments=arguments, ours=ours, theirs=theirs)
    return found


# --- end states ---------------------------------------------------------------------------------------------------------------


class StateHash:
    """tau-bench's hash of its database: SHA-256 over the text of nested tuples of sorted items. Parts that stay are kept as text."""

    def __init__(self, shipped: Mapping[str, Mapping[str, Any]]) -> None:
        self._texts = {kind: {key: _text(row) for key, row in rows.items()} for kind, rows in shipped.items()}

    def of(self, records: Records) -> str:
        kinds = []
        for kind, rows in sorted(self._texts.items()):
            rows = {**rows, **{key: _text(row) for key, row in records.changed[kind].items()}}
            kinds.append(f"({kind!r}, ({', '.join(f'({key!r}, {text})' for key, text in sorted(rows.items()))}))")
        return hashlib.sha256(f"({', '.join(kinds)})".encode()).hexdigest()


def _text(row: Any) -> str:
    return str(_tuples(as_recorded(row)))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _tuples(each)) for key, each in sorted(value.items()))
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def airline_end_states() -> tuple[int, int, list[int]]:
    """(tasks, equal, ids that differ): our database after the reference actions against the published hash of theirs."""
    published: dict[int, tuple[str, list[Any]]] = {}
    for row in data.trajectories():
        info = (row["info"].get("reward_info") or {}).get("info") or {}
        if info.get("gt_data_hash"):
            published[row["task_id"]] = (info["gt_data_hash"], row["info"]["task"]["actions"])
    shipped = data.records("airline")
    hashed, records = StateHash(shipped), Records(shipped)
    differ = []
    for task, (digest, actions) in sorted(published.items()):
        records.reset()
        for action in actions:
            if action["name"] not in SKIPPED:
                answered(airline.AS_RECORDED, records, action["name"], action["kwargs"])
        if hashed.of(records) != digest:
            differ.append(task)
    return len(published), len(published) - len(differ), differ


# --- retail: answers without their arguments ------------------------------------------------------------------------------------


def retail_answers() -> Agreement:
    """Every recorded retail answer that names its record. A write's arguments are read off the record that it left behind."""
    found = Agreement()
    records = Records(data.records("retail"))
    for conversation in data.retail_conversations():
        records.reset()
        for theirs in _tool_answers(conversation):
            tool, arguments = _call_behind(records, theirs)
            if tool is None:
                found.note("(not reconstructed)", False, theirs=theirs)
                continue
            ours = as_recorded(answered(retail.TOOLS, records, tool, arguments))
            found.note(tool, ours == as_recorded(theirs), arguments=arguments, ours=ours, theirs=theirs)
    return found


def _tool_answers(conversation: str) -> Iterator[Any]:
    for turn in re.split(r"\n(?=(?:user|assistant|tool): )", conversation):
        if turn.startswith("tool: "):
            answer = parsed(turn.removeprefix("tool: "))
            if isinstance(answer, dict) and ({"order_id", "product_id", "payment_methods"} & set(answer)):
                yield answer


def _call_behind(records: Records, answer: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The tool and arguments that turn the world as it is into this answer."""
    if "payment_methods" in answer:
        key = next(key for key, user in records.all("users").items() if user["email"] == answer["email"])
        before = as_recorded(records.get("users", key))
        if before["address"] == answer["address"]:
            return "get_user_details", {"user_id": key}
        address = {**answer["address"], "state": answer["address"].get("state", answer["address"].get("province"))}
        return "modify_user_address", {"user_id": key, **address}
    if "variants" in answer:
        return "get_product_details", {"product_id": answer["product_id"]}
    before = records.get("orders", answer["order_id"])
    order = {"order_id": answer["order_id"]}
    if before == answer:
        return "get_order_details", order
    return _order_change(before, answer, order)


def _order_change(before: Mapping[str, Any], after: Mapping[str, Any], order: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    match after["status"]:
        case "cancelled":
            return "cancel_pending_order", {**order, "reason": after.get("cancel_reason")}
        case "return requested":
            rest = {"item_ids": after["return_items"], "payment_method_id": after["return_payment_method_id"]}
            return "return_delivered_order_items", {**order, **rest}
        case "exchange requested":
            old, new = _matched(before, after["exchange_items"], after["exchange_new_items"])
            rest = {"item_ids": old, "new_item_ids": new, "payment_method_id": after["exchange_payment_method_id"]}
            return "exchange_delivered_order_items", {**order, **rest}
        case "pending (item modified)":
            pairs = zip(before["items"], after["items"], strict=True)
            swapped = [(a["item_id"], b["item_id"]) for a, b in pairs if a != b] or _same_again(before)
            rest = {"item_ids": [a for a, _ in swapped], "new_item_ids": [b for _, b in swapped]}
            return "modify_pending_order_items", {
                **order, **rest, "payment_method_id": after["payment_history"][-1]["payment_method_id"],
            }  # fmt: skip
        case "pending" if before["address"] != after["address"]:
            return "modify_pending_order_address", {**order, **after["address"]}
        case "pending":
            return "modify_pending_order_payment", {
                **order, "payment_method_id": after["payment_history"][1]["payment_method_id"],
            }  # fmt: skip
    return None, order


def _same_again(before: Mapping[str, Any]) -> list[tuple[str, str]]:
    first = before["items"][0]["item_id"]
    return [(first, first)]


def _matched(before: Mapping[str, Any], old: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """The record keeps both lists sorted; pairs are found again by their product."""
    products = data.records("retail")["products"]
    by_product: defaultdict[str, list[str]] = defaultdict(list)
    for item in new:
        by_product[next(key for key, product in products.items() if item in product["variants"])].append(item)
    product_of = {item["item_id"]: item["product_id"] for item in before["items"]}
    return old, [by_product[product_of[item]].pop(0) for item in old]
