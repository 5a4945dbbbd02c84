"""The retail tools, rebuilt from tau-bench's records, policy and recorded answers. Knows records; knows no HTTP and no governance.

As in the recorded world a tool checks what its records need, not who asks or whether anybody agreed: that is the desk's to judge.
`quote_*` are look-ups of our own: the facts of a change that is only wished for, as the store's records have them.
"""

import ast
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.tau.world.records import Records, Refused

REASONS = ("no longer needed", "ordered by mistake")
Arguments = Mapping[str, Any]


def find_user_id_by_email(records: Records, arguments: Arguments) -> Any:
    wanted = str(arguments["email"]).lower()
    return _one_user(key for key, user in records.all("users").items() if user["email"].lower() == wanted)


def find_user_id_by_name_zip(records: Records, arguments: Arguments) -> Any:
    wanted = (str(arguments["first_name"]).lower(), str(arguments["last_name"]).lower(), str(arguments["zip"]))
    return _one_user(
        key
        for key, user in records.all("users").items()
        if (user["name"]["first_name"].lower(), user["name"]["last_name"].lower(), user["address"]["zip"]) == wanted
    )


def _one_user(keys: Any) -> str:
    found = next(iter(keys), None)
    if found is None:
        raise Refused("Error: user not found")
    return str(found)


def get_user_details(records: Records, arguments: Arguments) -> Any:
    return records.get("users", arguments["user_id"])


def get_order_details(records: Records, arguments: Arguments) -> Any:
    return records.get("orders", arguments["order_id"])


def get_product_details(records: Records, arguments: Arguments) -> Any:
    return records.get("products", arguments["product_id"])


def get_item_details(records: Records, arguments: Arguments) -> Any:
    found = _variant(records, arguments["item_id"])
    if found is None:
        raise Refused("Error: item not found")
    return found


def list_all_product_types(records: Records, arguments: Arguments) -> Any:
    return dict(sorted((product["name"], key) for key, product in records.all("products").items()))


def calculate(records: Records, arguments: Arguments) -> Any:
    """A sum as text, worked out without evaluating code."""
    try:
        value = _worked_out(ast.parse(str(arguments["expression"]), mode="eval").body)
    except (SyntaxError, TypeError, ZeroDivisionError) as error:
        raise Refused("Error: invalid characters in expression") from error
    return str(round(float(value), 2))


_OPERATIONS: Mapping[type, Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.USub: operator.neg,
}  # fmt: skip


def _worked_out(node: ast.AST) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_worked_out(left), _worked_out(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_worked_out(operand))
    raise SyntaxError("only numbers, + - * / and brackets")


def transfer_to_human_agents(records: Records, arguments: Arguments) -> Any:
    return "Transfer successful"


# --- changes of pending orders ---------------------------------------------------------------------------------------------


def cancel_pending_order(records: Records, arguments: Arguments) -> Any:
    order = records.get("orders", arguments["order_id"])
    if order["status"] != "pending":
        raise Refused("Error: non-pending order cannot be cancelled")
    if arguments["reason"] not in REASONS:
        raise Refused("Error: invalid reason")
    order = records.edit("orders", arguments["order_id"])
    refunds = [_entry("refund", paid["amount"], paid["payment_method_id"]) for paid in order["payment_history"]]
    for refund in refunds:
        _credit(records, order["user_id"], refund["payment_method_id"], refund["amount"])
    order |= {"status": "cancelled", "cancel_reason": arguments["reason"]}
    order["payment_history"] += refunds
    return order


def modify_pending_order_address(records: Records, arguments: Arguments) -> Any:
    if records.get("orders", arguments["order_id"])["status"] != "pending":
        raise Refused("Error: non-pending order cannot be modified")
    order = records.edit("orders", arguments["order_id"])
    order["address"] = _address(arguments)
    return order


def modify_pending_order_payment(records: Records, arguments: Arguments) -> Any:
    order = records.get("orders", arguments["order_id"])
    chosen = arguments["payment_method_id"]
    if order["status"] != "pending":
        raise Refused("Error: non-pending order cannot be modified")
    method = _method(records, order, chosen)
    if len(order["payment_history"]) != 1 or order["payment_history"][0]["transaction_type"] != "payment":
        raise Refused("Error: there should be exactly one payment for a pending order")
    paid = order["payment_history"][0]
    if paid["payment_method_id"] == chosen:
        raise Refused("Error: the new payment method should be different from the current one")
    if method["source"] == "gift_card" and method["balance"] < paid["amount"]:
        raise Refused("Error: insufficient gift card balance to pay for the order")
    order = records.edit("orders", arguments["order_id"])
    order["payment_history"] += [
        _entry("payment", paid["amount"], chosen),
        _entry("refund", paid["amount"], paid["payment_method_id"]),
    ]
    _credit(records, order["user_id"], chosen, -paid["amount"])
    _credit(records, order["user_id"], paid["payment_method_id"], paid["amount"])
    return order


def modify_pending_order_items(records: Records, arguments: Arguments) -> Any:
    order = records.get("orders", arguments["order_id"])
    if order["status"] != "pending":
        raise Refused("Error: non-pending order cannot be modified")
    pairs = _pairs(records, order, arguments, "modified")
    difference = sum(new["price"] - old["price"] for old, new in pairs)
    chosen = arguments["payment_method_id"]
    _require_balance(_method(records, order, chosen), difference)
    order = records.edit("orders", arguments["order_id"])
    order["payment_history"].append(_entry("payment" if difference > 0 else "refund", abs(difference), chosen))
    _credit(records, order["user_id"], chosen, -difference)
    for old, new in pairs:
        row = next(item for item in order["items"] if item["item_id"] == old["item_id"])
        row |= {"item_id": new["item_id"], "price": new["price"], "options": new["options"]}
    order["status"] = "pending (item modified)"
    return order


# --- after delivery --------------------------------------------------------------------------------------------------------


def return_delivered_order_items(records: Records, arguments: Arguments) -> Any:
    order = records.get("orders", arguments["order_id"])
    if order["status"] != "delivered":
        raise Refused("Error: non-delivered order cannot be returned")
    method = _method(records, order, arguments["payment_method_id"])
    if method["source"] != "gift_card" and method["id"] != order["payment_history"][0]["payment_method_id"]:
        raise Refused("Error: payment method should be either the original payment method or a gift card")
    _require_items(order, arguments["item_ids"], "Error: some item not found")
    order = records.edit("orders", arguments["order_id"])
    order |= {
        "status": "return requested",
        "return_items": sorted(arguments["item_ids"]),
        "return_payment_method_id": arguments["payment_method_id"],
    }
    return order


def exchange_delivered_order_items(records: Records, arguments: Arguments) -> Any:
    order = records.get("orders", arguments["order_id"])
    if order["status"] != "delivered":
        raise Refused("Error: non-delivered order cannot be exchanged")
    pairs = _pairs(records, order, arguments, "exchanged")
    difference = round(sum(new["price"] - old["price"] for old, new in pairs), 2)
    _require_balance(_method(records, order, arguments["payment_method_id"]), difference)
    order = records.edit("orders", arguments["order_id"])
    order |= {
        "status": "exchange requested",
        "exchange_items": sorted(arguments["item_ids"]),
        "exchange_new_items": sorted(arguments["new_item_ids"]),
        "exchange_payment_method_id": arguments["payment_method_id"],
        "exchange_price_difference": difference,
    }
    return order


def modify_user_address(records: Records, arguments: Arguments) -> Any:
    records.get("users", arguments["user_id"])
    user = records.edit("users", arguments["user_id"])
    user["address"] = _address(arguments)
    return user


# --- what a wished change would mean ------------------------------------------------------------------------------------------


def quote_item_changes(records: Records, arguments: Arguments) -> Any:
    """Lists of what does not fit, the difference in price (what the buyer owes is positive) and the chosen payment method."""
    order = records.get("orders", arguments["order_id"])
    old_ids, new_ids = _listed(arguments["item_ids"]), _listed(arguments["new_item_ids"])
    held = {item["item_id"]: item for item in order["items"]}
    pairs = [(held[old], _variant(records, new)) for old, new in zip(old_ids, new_ids, strict=False) if old in held]
    known = [(old, new) for old, new in pairs if new is not None]
    return {
        "not_in_order": len(_not_in(order, old_ids)),
        "unpaired": abs(len(old_ids) - len(new_ids)),
        "unknown": len(pairs) - len(known),
        "items": [each for each in old_ids if each in held],
        "new_items": [new["item_id"] for _, new in known],
        "unavailable": [new["item_id"] for _, new in known if not new["available"]],
        "other_product": [new["item_id"] for old, new in known if _product(records, new["item_id"]) != old["product_id"]],
        "unchanged": [new["item_id"] for old, new in known if new["item_id"] == old["item_id"]],
        "difference": round(sum(new["price"] - old["price"] for old, new in known), 2),
        "payment": _payment(records, order, arguments["payment_method_id"]),
    }


def quote_return(records: Records, arguments: Arguments) -> Any:
    order = records.get("orders", arguments["order_id"])
    wanted, held = _listed(arguments["item_ids"]), {item["item_id"] for item in order["items"]}
    return {
        "not_in_order": len(_not_in(order, wanted)),
        "items": [each for each in wanted if each in held],
        "payment": _payment(records, order, arguments["payment_method_id"]),
    }


def quote_payment(records: Records, arguments: Arguments) -> Any:
    order = records.get("orders", arguments["order_id"])
    total = sum(paid["amount"] for paid in order["payment_history"] if paid["transaction_type"] == "payment")
    return {
        "total": round(total, 2),
        "payments": len(order["payment_history"]),
        "payment": _payment(records, order, arguments["payment_method_id"]),
    }


def _payment(records: Records, order: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    method = records.get("users", order["user_id"])["payment_methods"].get(chosen)
    return {
        "id": chosen if method else None,
        "on_file": method is not None,
        "source": method["source"] if method else None,
        "balance": method.get("balance") if method else None,
        "original": order["payment_history"][0]["payment_method_id"] == chosen,
    }


def _listed(text: str) -> list[str]:
    return [each for each in str(text).split(",") if each]


# --- small parts ----------------------------------------------------------------------------------------------------------


def _entry(kind: str, amount: float, method: str) -> dict[str, Any]:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": method}


def _address(arguments: Arguments) -> dict[str, Any]:
    return {name: arguments[name] for name in ("address1", "address2", "city", "state", "country", "zip")}


def _credit(records: Records, user_id: str, method_id: str, amount: float) -> None:
    """Gift cards are settled at once; cards and PayPal settle elsewhere."""
    if records.get("users", user_id)["payment_methods"][method_id]["source"] == "gift_card":
        method = records.edit("users", user_id)["payment_methods"][method_id]
        method["balance"] = round(method["balance"] + amount, 2)


def _method(records: Records, order: Mapping[str, Any], method_id: str) -> Mapping[str, Any]:
    method = records.get("users", order["user_id"])["payment_methods"].get(method_id)
    if method is None:
        raise Refused("Error: payment method not found")
    return dict(method)


def _require_balance(method: Mapping[str, Any], difference: float) -> None:
    if method["source"] == "gift_card" and method["balance"] < difference:
        raise Refused("Error: insufficient gift card balance to pay for the price difference")


def _not_in(order: Mapping[str, Any], item_ids: Sequence[str]) -> list[str]:
    """Wanted more often than the order holds them."""
    return sorted((Counter(item_ids) - Counter(item["item_id"] for item in order["items"])).elements())


def _require_items(order: Mapping[str, Any], item_ids: Sequence[str], message: str) -> None:
    if _not_in(order, item_ids):
        raise Refused(message)


def _pairs(records: Records, order: Mapping[str, Any], arguments: Arguments, verb: str) -> list[tuple[Any, Any]]:
    """Each item of the order with the variant that takes its place."""
    old_ids, new_ids = arguments["item_ids"], arguments["new_item_ids"]
    if missing := _not_in(order, old_ids):
        raise Refused(f"Error: {missing[0]} not found")
    if len(old_ids) != len(new_ids):
        raise Refused(f"Error: the number of items to be {verb} should match")
    pairs = []
    for old_id, new_id in zip(old_ids, new_ids, strict=True):
        old = next(item for item in order["items"] if item["item_id"] == old_id)
        new = records.get("products", old["product_id"])["variants"].get(new_id)
        if new is None or not new["available"]:
            raise Refused(f"Error: new item {new_id} not found or available")
        pairs.append((dict(old), new))
    return pairs


def _variant(records: Records, item_id: str) -> Mapping[str, Any] | None:
    product = _product(records, item_id)
    return records.get("products", product)["variants"][item_id] if product else None


def _product(records: Records, item_id: str) -> str | None:
    return next((key for key, product in records.all("products").items() if item_id in product["variants"]), None)


TOOLS: Mapping[str, Callable[[Records, Arguments], Any]] = {
    tool.__name__: tool
    for tool in (
        find_user_id_by_email, find_user_id_by_name_zip, get_user_details, get_order_details, get_product_details, get_item_details,
        list_all_product_types, calculate, transfer_to_human_agents, cancel_pending_order, modify_pending_order_address,
        modify_pending_order_payment, modify_pending_order_items, return_delivered_order_items, exchange_delivered_order_items,
        modify_user_address, quote_item_changes, quote_return, quote_payment,
    )
}  # fmt: skip
