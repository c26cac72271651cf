"""A program that calls other services with each HTTP library."""

from typing import assert_type

import aiohttp
import httpx
import requests

from sessionsight.propagation import aiohttp as for_aiohttp
from sessionsight.propagation.httpx import propagate, propagating_transport
from sessionsight.propagation.requests import PropagatingAdapter

hooks = {"request": [propagate("api.example.com", "*.internal:8443")]}
client = httpx.Client(event_hooks=hooks)
async_client = httpx.AsyncClient(event_hooks={"request": [propagate("api.example.com")]})
transport = propagating_transport(httpx.HTTPTransport(retries=2), "api.example.com")
assert_type(transport, httpx.HTTPTransport)
with httpx.Client(transport=transport) as transported:
    assert_type(transported.get("https://api.example.com"), httpx.Response)

session = requests.Session()
session.mount("https://", PropagatingAdapter("api.example.com", max_retries=2))


async def pay() -> int:
    async with (
        aiohttp.ClientSession(middlewares=[for_aiohttp.propagate("api.example.com")]) as http,
        http.post("https://api.example.com/payments") as response,
    ):
        return response.status
