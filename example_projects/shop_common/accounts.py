"""The shop's business, in memory: it ends with the process, so there is no database to set up."""

from dataclasses import dataclass, field
from itertools import count

from shop_common.products import PLAN, Product
from shop_common.provider import Charge


@dataclass(slots=True)
class Order:
    id: str
    product: Product
    charge: Charge | None = None
    paid: bool = False
    refunded: bool = False


@dataclass(slots=True)
class User:
    id: str
    email: str
    plan: str = "free"
    orders: dict[str, Order] = field(default_factory=dict)


class Accounts:
    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._orders: dict[str, Order] = {}
        self._numbers = count(1)

    def find(self, user_id: str | None) -> User | None:
        return self._users.get(user_id or "")

    def sign_up(self, email: str) -> User:
        user = User(f"user_{next(self._numbers)}", email)
        self._users[user.id] = user
        return user

    def subscribe(self, user: User) -> None:
        user.plan = PLAN.slug

    def buy(self, user: User, product: Product) -> Order:
        order = Order(f"order_{next(self._numbers)}", product)
        user.orders[order.id] = self._orders[order.id] = order
        return order

    def pay(self, order_id: str) -> bool:
        """Mark an order as paid. False if it was paid before, or is not of this process."""
        order = self._orders.get(order_id)
        if order is None or order.paid:
            return False
        order.paid = True
        return True

    def refund(self, user: User, order_id: str) -> Charge | None:
        """The charge to pay back; None if there is nothing to pay back."""
        order = user.orders.get(order_id)
        if order is None or order.refunded:
            return None
        order.refunded = True
        return order.charge
