"""The example shop, with Flask.

    flask --app example_projects/shop_flask/app run

Where the records go stands in environment variables, such as SIGNAL_API_KEY. `make demo SHOP=flask` sets
them for you, to a receiver on this machine.
"""

# mypy: disable-error-code="attr-defined"
# Type checkers do not know of `request.analytics`; `sessionsight.current()` is the same, and typed.

import secrets

from flask import Flask, Request, abort, redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from shop_common import STATIC, TEMPLATES, payments, provider, stock
from shop_common.accounts import Accounts, User
from shop_common.products import PLAN, PRODUCTS
from shop_common.signature import SignatureError
from shop_common.storage import DEDUPE_WINDOW, SPOOL
from shop_common.vendors import for_scripts

from sessionsight import CheckoutFinished, CheckoutStarted, SignupCompleted
from sessionsight_flask import SessionSight

app = Flask(__name__, static_folder=STATIC, template_folder=TEMPLATES)
app.secret_key = secrets.token_bytes()  # a new one each time, as the accounts are gone as well


def user_id(_: Request) -> str | None:
    """Return the signed-in user, in a shop with a login of its own; Flask-Login's users are known without this."""
    return session.get("user_id")


app.config["SESSIONSIGHT_USER"] = user_id
# A webhook that is sent again must not be counted again, whichever process gets it, also after a restart.
app.config["SESSIONSIGHT_SPOOL"] = SPOOL
app.config["SESSIONSIGHT_DEDUPE_WINDOW"] = DEDUPE_WINDOW
analytics = SessionSight()
analytics.init_app(app)
accounts = Accounts()


@app.before_request
def tag() -> None:
    """Every event of this app says which of the three shops it comes from."""
    request.analytics.tag(shop="flask")


@app.context_processor
def for_all_pages() -> dict[str, object]:
    user = accounts.find(session.get("user_id"))
    return {"framework": "Flask", "user": user, "scripts": for_scripts(user)}


# --- Looking around -------------------------------------------------------------------------------


@app.get("/")
def products() -> str:
    return render_template("products.html", products=PRODUCTS.values())


@app.get("/products/<slug>")
def product(slug: str) -> str:
    product = PRODUCTS.get(slug) or abort(404)
    # Nobody need be signed in for this: Saytics and Analyse.net know the visitor by the ss_vid cookie.
    request.analytics.capture("Product Viewed", {"product_id": product.slug, "price": product.dollars})
    return render_template("product.html", product=product)


# --- Signing up and subscribing: plain form posts, which carry cookies only ------------------------


@app.get("/signup")
def signup_form() -> str:
    return render_template("signup.html")


@app.post("/signup")
def signup() -> ResponseReturnValue:
    user = accounts.sign_up(request.form["email"])
    session["user_id"] = user.id
    request.analytics.identify(user.id, {"plan": user.plan})
    request.analytics.capture(SignupCompleted(method="email", plan=user.plan))
    request.analytics.goals.increment("user-signups")
    return redirect("/", 303)


@app.get("/membership")
def membership() -> str:
    return render_template("membership.html", plan=PLAN)


@app.post("/membership")
def subscribe() -> ResponseReturnValue:
    user = signed_in()
    # Counted right here, as no payment can fail in this shop. Products, below, are counted by a webhook.
    request.analytics.capture(CheckoutStarted(payment_type="subscription", billing_interval="month", plan=PLAN.slug))
    accounts.subscribe(user)
    request.analytics.capture(
        CheckoutFinished(
            payment_type="subscription", billing_interval="month", plan=PLAN.slug, amount=PLAN.cents, currency="USD"
        )
    )
    request.analytics.goals.increment("monthly-revenue", amount=PLAN.dollars)
    request.analytics.identify(user.id, {"plan": user.plan})
    return redirect("/account", 303)


# --- Buying and refunding: sent by fetch, so that Signal's headers come along ----------------------


@app.post("/products/<slug>/buy")
def buy(slug: str) -> ResponseReturnValue:
    user, product = signed_in(), PRODUCTS.get(slug) or abort(404)
    request.analytics.capture(CheckoutStarted(payment_type="one_time", product_id=product.slug))
    order = accounts.buy(user, product)
    stock.reserve(order)
    # The provider returns the metadata with its webhooks, so that they know the visitor.
    metadata = {"order_id": order.id, **request.analytics.context.to_carrier()}
    order.charge = provider.charge(request.host_url, product.cents, metadata)
    return {"next": "/account"}


@app.post("/orders/<order_id>/refund")
def refund(order_id: str) -> ResponseReturnValue:
    charge = accounts.refund(signed_in(), order_id) or abort(404)
    provider.refund(request.host_url, charge)
    return {"next": "/account"}


@app.post("/webhooks/payments")
def payments_webhook() -> ResponseReturnValue:
    try:
        payments.handle(request.get_data(), request.headers.get("Stripe-Signature", ""), accounts)
    except SignatureError:
        abort(400)
    return "", 204


@app.get("/account")
def account() -> ResponseReturnValue:
    if accounts.find(session.get("user_id")) is None:
        return redirect("/signup")
    return render_template("account.html")


def signed_in() -> User:
    return accounts.find(session.get("user_id")) or abort(403)
