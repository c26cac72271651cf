"""Products of the shop. Prices are in cents; `dollars` is for the eye, and for goals."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Product:
    slug: str
    name: str
    cents: int
    text: str

    @property
    def dollars(self) -> Decimal:
        return Decimal(self.cents) / 100

    @property
    def price(self) -> str:
        return f"${self.dollars:.2f}"


PRODUCTS = {
    product.slug: product
    for product in [
        Product("mug", "Stoneware mug", 1850, "Holds 350 ml, stands straight, and keeps the tea warm for one chapter."),
        Product("notebook", "Dotted notebook", 1200, "192 pages that lie flat, with a pocket for what does not fit."),
        Product("lamp", "Desk lamp", 6400, "A warm light on a long arm. Three steps, one button, nothing to install."),
        Product("plant", "Potted fern", 2475, "Likes shade and a glass of water on Mondays. The pot is included."),
        Product("tote", "Cotton tote", 1600, "Strong handles, an inner pocket, and room for a week of groceries."),
        Product("clock", "Wall clock", 3990, "Sweeps instead of ticking, so that it can hang where you work."),
    ]
}

PLAN = Product("pro", "Pro membership", 4900, "Free shipping, early access, and a new print every month.")
