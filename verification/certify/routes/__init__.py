"""Second routes to the values of `ppo` and `trpo`: derivatives by hand, differences, quadrature, exact rationals.

No line is shared with `definitions` beyond the toolbox of balls: not the order of the parameters, nor a formula.
"""
