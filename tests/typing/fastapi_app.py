"""A FastAPI app: the middleware under a strict type checker, the analytics as a dependency, and on requests."""

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sessionsight import Analytics, Settings, current
from sessionsight_asgi import AnalyticsMiddleware, AnalyticsRequest, AnalyticsWebSocket, get_analytics

app = FastAPI()
app.add_middleware(AnalyticsMiddleware, settings=Settings())


@app.post("/orders")
async def create_order(analytics: Annotated[Analytics, Depends(get_analytics)]) -> dict[str, str]:
    analytics.capture("order_processed", {"order_id": 1})
    return {"status": "ok"}


@app.post("/refunds")
async def refund(request: AnalyticsRequest) -> dict[str, str]:
    assert_type(request.analytics, Analytics)
    request.analytics.goals.decrement("monthly-revenue", amount=49)
    request.analytics.capture(5)  # type: ignore[arg-type]
    request.analytics = current()  # type: ignore[misc]
    return {"path": request.url.path}


@app.websocket("/chat")
async def chat(websocket: AnalyticsWebSocket) -> None:
    await websocket.accept()
    websocket.analytics.capture("chat_opened")


async def page(request: AnalyticsRequest) -> PlainTextResponse:
    request.analytics.capture("page_viewed")
    return PlainTextResponse("ok")


async def home(request: Request) -> PlainTextResponse:
    assert_type(await get_analytics(request), Analytics)
    current().capture("home_viewed")
    return PlainTextResponse("ok")


starlette = Starlette(routes=[Route("/", home), Route("/page", page)], middleware=[Middleware(AnalyticsMiddleware)])
wrapped = AnalyticsMiddleware(starlette)
