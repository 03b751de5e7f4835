"""Honest variants: the same mathematics in other orders and by other formulas, which the judge must not call wrong.

Every variant is an adapter like a user's.  ``orders`` holds the ways to add numbers up; ``ordinary`` the operations as
one would write them, with the order left open; ``formulas`` other formulas for them; ``automatic`` the derivatives by
PyTorch and JAX.  ``python -m verification.honest`` judges them all and prints how near to the tolerance they come.
"""
