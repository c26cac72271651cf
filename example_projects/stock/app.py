"""The stock service: a second app, which the shops call by httpx.

    uvicorn --app-dir example_projects stock.app:app

No browser calls it. It knows the visitor by the headers and cookies that the shop's HTTP client adds.
"""

from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessionsight_asgi import AnalyticsMiddleware, AnalyticsRequest

reserved: Counter[str] = Counter()


async def show(request: Request) -> Response:
    return JSONResponse(reserved)


async def reserve(request: AnalyticsRequest) -> Response:
    reservation = await request.json()
    reserved[reservation["product_id"]] += 1
    request.analytics.capture("Stock Reserved", reservation)
    return Response(status_code=204)


app = Starlette(routes=[Route("/", show), Route("/reservations", reserve, methods=["POST"])])
app.add_middleware(AnalyticsMiddleware)
