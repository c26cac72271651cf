"""The example shop, with FastAPI.

    uvicorn --app-dir example_projects shop_fastapi.app:app

Where the records go stands in environment variables, such as SIGNAL_API_KEY. `make demo SHOP=fastapi` sets
them for you, to a receiver on this machine.
"""

import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from shop_common import STATIC, TEMPLATES, payments, provider, stock
from shop_common.accounts import Accounts, User
from shop_common.products import PLAN, PRODUCTS, Product
from shop_common.signature import SignatureError
from shop_common.storage import DEDUPE_WINDOW, SPOOL
from shop_common.vendors import for_scripts
from starlette.middleware.sessions import SessionMiddleware

from sessionsight import Analytics, CheckoutFinished, CheckoutStarted, SignupCompleted
from sessionsight_asgi import AnalyticsMiddleware, get_analytics

# `request.analytics` is the same object; as a dependency, editors and type checkers know it as well.
RequestAnalytics = Annotated[Analytics, Depends(get_analytics)]


def tag(analytics: RequestAnalytics) -> None:
    """Every event of this app says which of the three shops it comes from."""
    analytics.tag(shop="fastapi")


app = FastAPI(dependencies=[Depends(tag)])
# `user` says who is signed in, in a shop with a login of its own. With Starlette's authentication it is not needed.
# A webhook that is sent again must not be counted again, whichever process gets it, also after a restart: by the spool.
app.add_middleware(
    AnalyticsMiddleware,
    user=lambda request: request.session.get("user_id"),
    spool=SPOOL,
    dedupe_window=DEDUPE_WINDOW,
)
# A new key each time, as the accounts are gone as well.
app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex())
app.mount("/static", StaticFiles(directory=STATIC))
templates = Jinja2Templates(directory=TEMPLATES)
accounts = Accounts()


def visitor(request: Request) -> User | None:
    return accounts.find(request.session.get("user_id"))


def signed_in(user: Annotated[User | None, Depends(visitor)]) -> User:
    if user is None:
        raise HTTPException(403)
    return user


SignedIn = Annotated[User, Depends(signed_in)]


def known_product(slug: str) -> Product:
    if slug not in PRODUCTS:
        raise HTTPException(404)
    return PRODUCTS[slug]


def page(request: Request, name: str, **context: object) -> Response:
    user = visitor(request)
    shown = {"framework": "FastAPI", "user": user, "scripts": for_scripts(user), **context}
    return templates.TemplateResponse(request, name, shown)


# --- Looking around -------------------------------------------------------------------------------


@app.get("/")
async def products(request: Request) -> Response:
    return page(request, "products.html", products=PRODUCTS.values())


@app.get("/products/{slug}")
async def product(request: Request, analytics: RequestAnalytics, slug: str) -> Response:
    product = known_product(slug)
    # Nobody need be signed in for this: Saytics and Analyse.net know the visitor by the ss_vid cookie.
    analytics.capture("Product Viewed", {"product_id": product.slug, "price": product.dollars})
    return page(request, "product.html", product=product)


# --- Signing up and subscribing: plain form posts, which carry cookies only ------------------------


@app.get("/signup")
async def signup_form(request: Request) -> Response:
    return page(request, "signup.html")


@app.post("/signup")
async def signup(request: Request, analytics: RequestAnalytics, email: Annotated[str, Form()]) -> Response:
    user = accounts.sign_up(email)
    request.session["user_id"] = user.id
    analytics.identify(user.id, {"plan": user.plan})
    analytics.capture(SignupCompleted(method="email", plan=user.plan))
    analytics.goals.increment("user-signups")
    return RedirectResponse("/", 303)


@app.get("/membership")
async def membership(request: Request) -> Response:
    return page(request, "membership.html", plan=PLAN)


@app.post("/membership")
async def subscribe(analytics: RequestAnalytics, user: SignedIn) -> Response:
    # Counted right here, as no payment can fail in this shop. Products, below, are counted by a webhook.
    analytics.capture(CheckoutStarted(payment_type="subscription", billing_interval="month", plan=PLAN.slug))
    accounts.subscribe(user)
    analytics.capture(
        CheckoutFinished(
            payment_type="subscription", billing_interval="month", plan=PLAN.slug, amount=PLAN.cents, currency="USD"
        )
    )
    analytics.goals.increment("monthly-revenue", amount=PLAN.dollars)
    analytics.identify(user.id, {"plan": user.plan})
    return RedirectResponse("/account", 303)


# --- Buying and refunding: sent by fetch, so that Signal's headers come along ----------------------


@app.post("/products/{slug}/buy")
def buy(request: Request, analytics: RequestAnalytics, user: SignedIn, slug: str) -> dict[str, str]:
    product = known_product(slug)
    analytics.capture(CheckoutStarted(payment_type="one_time", product_id=product.slug))
    order = accounts.buy(user, product)
    stock.reserve(order)
    # The provider returns the metadata with its webhooks, so that they know the visitor.
    metadata = {"order_id": order.id, **analytics.context.to_carrier()}
    order.charge = provider.charge(str(request.base_url), product.cents, metadata)
    return {"next": "/account"}


@app.post("/orders/{order_id}/refund")
def refund(request: Request, user: SignedIn, order_id: str) -> dict[str, str]:
    charge = accounts.refund(user, order_id)
    if charge is None:
        raise HTTPException(404)
    provider.refund(str(request.base_url), charge)
    return {"next": "/account"}


async def body(request: Request) -> bytes:
    return await request.body()


# Not `async`, because it writes to the disk, which an event loop must not wait for.
@app.post("/webhooks/payments", status_code=204)
def payments_webhook(request: Request, payload: Annotated[bytes, Depends(body)]) -> None:
    try:
        payments.handle(payload, request.headers.get("Stripe-Signature", ""), accounts)
    except SignatureError:
        raise HTTPException(400) from None


@app.get("/account")
async def account(request: Request) -> Response:
    return page(request, "account.html") if visitor(request) else RedirectResponse("/signup")
