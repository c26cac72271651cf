"""The shop's business, in memory: it ends with the process, so there is no database to set up."""

from dataclasses import dataclass, field
from itertools import count

from shop_common.products import PLAN, Product


@dataclass(slots=True)
class Order:
    id: str
    product: Product
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
        user.orders[order.id] = order
        return order

    def refund(self, user: User, order_id: str) -> Order | None:
        """The order, paid back; None if there is nothing to pay back."""
        order = user.orders.get(order_id)
        if order is None or order.refunded:
            return None
        order.refunded = True
        return order
