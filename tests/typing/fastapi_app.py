"""A FastAPI app: the middleware under a strict type checker, and the analytics as a dependency."""

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sessionsight import Analytics, Settings, current
from sessionsight_asgi import AnalyticsMiddleware, get_analytics

app = FastAPI()
app.add_middleware(AnalyticsMiddleware, settings=Settings())


@app.post("/orders")
async def create_order(analytics: Annotated[Analytics, Depends(get_analytics)]) -> dict[str, str]:
    analytics.capture("order_processed", {"order_id": 1})
    return {"status": "ok"}


async def home(request: Request) -> PlainTextResponse:
    assert_type(await get_analytics(request), Analytics)
    current().capture("home_viewed")
    return PlainTextResponse("ok")


starlette = Starlette(routes=[Route("/", home)], middleware=[Middleware(AnalyticsMiddleware)])
wrapped = AnalyticsMiddleware(starlette)
