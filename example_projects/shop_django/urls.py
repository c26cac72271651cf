from django.urls import path

from shop_django import views

urlpatterns = [
    path("", views.products),
    path("products/<slug:slug>", views.product),
    path("products/<slug:slug>/buy", views.buy),
    path("signup", views.signup),
    path("membership", views.membership),
    path("orders/<str:order_id>/refund", views.refund),
    path("webhooks/payments", views.payments_webhook),
    path("account", views.account),
]
