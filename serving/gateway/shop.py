"""What the routes work with, made once per app. Knows the parts and what was built around them; knows no route."""

from dataclasses import dataclass

from starlette.requests import Request

from serving.gateway.backpressure import Intake
from serving.gateway.console.sessions import Sessions
from serving.gateway.desk import Desk
from serving.gateway.health import Health
from serving.gateway.metrics import Metrics
from serving.gateway.parts import Parts
from serving.gateway.waiting import Outcomes


@dataclass(frozen=True, kw_only=True)
class Shop:
    parts: Parts
    desk: Desk
    outcomes: Outcomes
    sessions: Sessions
    metrics: Metrics
    intake: Intake
    health: Health


def shop_of(request: Request) -> Shop:
    shop: Shop = request.app.state.shop
    return shop
