"""Billing: accounts, invoices, payments, refunds, subscriptions, licenses. Money is counted in cents, so that nothing is lost."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from orchestrator.sandbox import world as worlds
from orchestrator.sandbox.calls import Answer, Call, Problem, get, listing, one, post


def send_invoice(call: Call) -> Answer:
    invoice, email = call.the("invoices", call.path["id"]), call.text("email")
    if not call.records.is_address(email):
        raise Problem(404, f"{email} is not an address on record; invoices go to known addresses only.")
    subject, body = f"Invoice {invoice['id']}", f"A copy of invoice {invoice['id']} is attached: {invoice['pdf']}."
    call.send_mail(by="billing", to=email, subject=subject, body=body)
    return Answer(body=call.records.put("invoices", invoice["id"], {**invoice, "last_sent_to": email, "last_sent_at": call.at}))


def _cents(amount: Any) -> int:
    return int((Decimal(str(amount)) * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def refund(call: Call) -> Answer:
    reason, amount = call.text("reason"), call.amount("amount")
    payment = call.the("payments", call.text("payment_id"))
    cents, refunded = _cents(amount), _cents(payment["refunded_amount"])
    left = _cents(payment["amount"]) - refunded
    if Decimal(str(amount)) * 100 != cents or not cents:
        raise Problem(422, f"An amount has at most two decimals and is above zero; got {amount}.")
    if payment["status"] == "failed":
        raise Problem(409, f"Payment {payment['id']} failed; no money was taken, so none can go back.")
    if cents > left:
        raise Problem(409, f"Payment {payment['id']} has {left / 100:.2f} left to refund, which is less than {amount:.2f}.")
    number = call.records.next_id("refunds", "REF")
    made = {
        "id": number, "payment_id": payment["id"], "amount": cents / 100, "currency": payment["currency"], "reason": reason,
        "at": call.at,
    }  # fmt: skip
    status = "refunded" if cents == left else payment["status"]
    call.records.put("payments", payment["id"], {**payment, "refunded_amount": (refunded + cents) / 100, "status": status})
    return Answer(status=201, body=call.records.put("refunds", number, made))


def _subscription(call: Call, *allowed: str) -> dict[str, Any]:
    subscription = call.the("subscriptions", call.path["id"])
    if subscription["status"] not in allowed:
        raise Problem(409, f"Subscription {subscription['id']} is {subscription['status']}, not {' or '.join(allowed)}.")
    return subscription


def cancel_subscription(call: Call) -> Answer:
    subscription = _subscription(call, "active", "paused")
    before = subscription["status"]
    ended = {
        **subscription,
        "status": "cancelled",
        "cancelled_from": before,
        "ends_on": subscription["renews_on"],
        "cancelled_at": call.at,
    }
    return Answer(body=call.records.put("subscriptions", subscription["id"], ended))


def reactivate_subscription(call: Call) -> Answer:
    """Back to what it was: a subscription that was paused when it was cancelled is paused again."""
    subscription = _subscription(call, "cancelled", "paused")
    back = subscription.get("cancelled_from") or "active" if subscription["status"] == "cancelled" else "active"
    live = {**subscription, "status": back, "ends_on": None, "cancelled_at": None, "cancelled_from": None}
    return Answer(body=call.records.put("subscriptions", subscription["id"], live))


def pause_subscription(call: Call) -> Answer:
    subscription = _subscription(call, "active")
    return Answer(body=call.records.put("subscriptions", subscription["id"], {**subscription, "status": "paused"}))


def resume_subscription(call: Call) -> Answer:
    subscription = _subscription(call, "paused")
    return Answer(body=call.records.put("subscriptions", subscription["id"], {**subscription, "status": "active"}))


def renew_license(call: Call) -> Answer:
    found = call.the("licenses", call.path["id"])
    base = max(call.now, worlds.instant(found["expires_at"])) if found["expires_at"] else call.now
    renewed = {**found, "state": "active", "expires_at": worlds.iso(a_year_after(base)), "renewed_at": call.at}
    return Answer(body=call.records.put("licenses", found["id"], renewed))


def a_year_after(moment: datetime) -> datetime:
    """The same day next year; 1 March after 29 February."""
    try:
        return moment.replace(year=moment.year + 1)
    except ValueError:
        return (moment + timedelta(days=1)).replace(year=moment.year + 1)


ROUTES = (
    get("/billing/accounts/{id}", one("accounts")),
    get("/billing/invoices", listing("invoices", account="account"), "account"),
    get("/billing/invoices/{id}", one("invoices")),
    post("/billing/invoices/{id}/send", send_invoice, "email"),
    get(
        "/billing/payments", listing("payments", account="account", order="order", invoice="invoice"), "account", "order", "invoice"
    ),
    get("/billing/payments/{id}", one("payments")),
    get("/billing/refunds", listing("refunds", payment_id="payment_id"), "payment_id"),
    get("/billing/refunds/{id}", one("refunds")),
    post("/billing/refunds", refund, "payment_id", "amount", "reason"),
    get("/billing/subscriptions", listing("subscriptions", account="account"), "account"),
    get("/billing/subscriptions/{id}", one("subscriptions")),
    post("/billing/subscriptions/{id}/cancel", cancel_subscription),
    post("/billing/subscriptions/{id}/reactivate", reactivate_subscription),
    post("/billing/subscriptions/{id}/pause", pause_subscription),
    post("/billing/subscriptions/{id}/resume", resume_subscription),
    get("/billing/licenses", listing("licenses", user_id="user_id"), "user_id"),
    get("/billing/licenses/{id}", one("licenses")),
    post("/billing/licenses/{id}/renew", renew_license),
)
