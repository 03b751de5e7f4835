"""Second routes to `ppo`, `trpo` and `theory`: derivatives by hand, differences, quadrature, exact rationals.

No line is shared with `definitions` beyond the toolbox of balls: not the order of the parameters, nor a formula.
"""
