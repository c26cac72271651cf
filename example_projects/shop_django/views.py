"""The shop's views; `request.analytics` comes from sessionsight's middleware in settings.py."""

from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from shop_common import payments, provider, stock
from shop_common.accounts import Accounts, User
from shop_common.products import PLAN, PRODUCTS, Product
from shop_common.signature import SignatureError
from shop_common.vendors import for_scripts

from sessionsight import Analytics, CheckoutFinished, CheckoutStarted, SignupCompleted

accounts = Accounts()


class Request(HttpRequest):
    """Request with the attribute that the middleware adds. Only editors and type checkers need it."""

    analytics: Analytics


def tag(get_response: Callable[[Request], HttpResponse]) -> Callable[[Request], HttpResponse]:
    """A middleware: every event of this app says which of the three shops it comes from."""

    def middleware(request: Request) -> HttpResponse:
        request.analytics.tag(shop="django")
        return get_response(request)

    return middleware


# --- Looking around -------------------------------------------------------------------------------


@require_GET
def products(request: Request) -> HttpResponse:
    return page(request, "products.html", products=PRODUCTS.values())


@require_GET
def product(request: Request, slug: str) -> HttpResponse:
    product = known_product(slug)
    # Nobody need be signed in for this: Saytics and Analyse.net know the visitor by the ss_vid cookie.
    request.analytics.capture("Product Viewed", {"product_id": product.slug, "price": product.dollars})
    return page(request, "product.html", product=product)


# --- Signing up and subscribing: plain form posts, which carry cookies only ------------------------


@require_http_methods(["GET", "POST"])
def signup(request: Request) -> HttpResponse:
    if request.method == "GET":
        return page(request, "signup.html")
    user = accounts.sign_up(request.POST["email"])
    request.session["user_id"] = user.id
    request.analytics.identify(user.id, {"plan": user.plan})
    request.analytics.capture(SignupCompleted(method="email", plan=user.plan))
    request.analytics.goals.increment("user-signups")
    return HttpResponseRedirect("/")


@require_http_methods(["GET", "POST"])
def membership(request: Request) -> HttpResponse:
    if request.method == "GET":
        return page(request, "membership.html", plan=PLAN)
    user = signed_in(request)
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
    return HttpResponseRedirect("/account")


# --- Buying and refunding: sent by fetch, so that Signal's headers come along ----------------------


@require_POST
def buy(request: Request, slug: str) -> HttpResponse:
    user, product = signed_in(request), known_product(slug)
    request.analytics.capture(CheckoutStarted(payment_type="one_time", product_id=product.slug))
    order = accounts.buy(user, product)
    stock.reserve(order)
    # The provider returns the metadata with its webhooks, so that they know the visitor.
    metadata = {"order_id": order.id, **request.analytics.context.to_carrier()}
    order.charge = provider.charge(request.build_absolute_uri("/"), product.cents, metadata)
    return JsonResponse({"next": "/account"})


@require_POST
def refund(request: Request, order_id: str) -> HttpResponse:
    charge = accounts.refund(signed_in(request), order_id)
    if charge is None:
        raise Http404
    provider.refund(request.build_absolute_uri("/"), charge)
    return JsonResponse({"next": "/account"})


@csrf_exempt  # the provider signs its webhooks instead
@require_POST
def payments_webhook(request: Request) -> HttpResponse:
    try:
        payments.handle(request.body, request.headers.get("Stripe-Signature", ""), accounts)
    except SignatureError:
        return HttpResponse(status=400)
    return HttpResponse(status=204)


@require_GET
def account(request: Request) -> HttpResponse:
    return page(request, "account.html") if visitor(request) else HttpResponseRedirect("/signup")


# --- Who, what, and how it looks ------------------------------------------------------------------


def visitor(request: Request) -> User | None:
    return accounts.find(request.session.get("user_id"))


def signed_in(request: Request) -> User:
    user = visitor(request)
    if user is None:
        raise PermissionDenied
    return user


def known_product(slug: str) -> Product:
    if slug not in PRODUCTS:
        raise Http404
    return PRODUCTS[slug]


def page(request: Request, name: str, **context: object) -> HttpResponse:
    user = visitor(request)
    return render(request, name, {"framework": "Django", "user": user, "scripts": for_scripts(user), **context})
