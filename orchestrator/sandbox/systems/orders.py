"""Orders and shipments: what was bought, where it goes, and what comes back."""

from orchestrator.sandbox.calls import Answer, Call, Problem, get, listing, one, post

ADDRESS = ("street", "city", "postal_code", "country")


def change_address(call: Call) -> Answer:
    order = call.the("orders", call.path["id"])
    if order["status"] not in ("placed", "packed"):
        raise Problem(409, f"Order {order['id']} is {order['status']}; its address can be changed until it is shipped.")
    address = {name: call.text(name) for name in ADDRESS}
    return Answer(body=call.records.put("orders", order["id"], {**order, "address": address}))


def create_return(call: Call) -> Answer:
    """A return merchandise authorization: one at a time per order; its label is mailed to the customer."""
    order, wish, reason = call.the("orders", call.path["id"]), call.text("wish"), call.text("reason")
    if wish not in ("refund", "replacement"):
        raise Problem(422, f"A return is for a refund or a replacement, not for {wish!r}.")
    if order["status"] not in ("shipped", "delivered"):
        raise Problem(409, f"Order {order['id']} is {order['status']}; there is nothing to send back.")
    if order["return_id"]:
        raise Problem(409, f"Order {order['id']} has the open return {order['return_id']} already.")
    number = call.records.next_id("returns", "RMA")
    if order["customer_email"]:
        call.send_mail(by="orders", to=order["customer_email"], subject=f"Return {number}", body="The label is attached.")
    call.records.put("orders", order["id"], {**order, "return_id": number})
    made = {"id": number, "order_id": order["id"], "wish": wish, "reason": reason, "state": "open", "at": call.at}
    return Answer(status=201, body=call.records.put("returns", number, made))


def cancel_return(call: Call) -> Answer:
    found = call.the("returns", call.path["id"])
    if found["state"] != "open":
        raise Problem(409, f"Return {found['id']} is {found['state']}, not open.")
    order = call.the("orders", found["order_id"])
    call.records.put("orders", order["id"], {**order, "return_id": None})
    return Answer(body=call.records.put("returns", found["id"], {**found, "state": "cancelled"}))


ROUTES = (
    get("/orders", listing("orders", email="customer_email", account="account"), "email", "account"),
    get("/orders/{id}", one("orders")),
    post("/orders/{id}/address", change_address, *ADDRESS),
    post("/orders/{id}/returns", create_return, "wish", "reason"),
    get("/orders/returns/{id}", one("returns")),
    post("/orders/returns/{id}/cancel", cancel_return),
)
