"""Hostile vector files against the loader: nothing but a `VectorError`, or a file that is valid by another judgement.

    seeds        small valid releases, built from the contract
    mutations    what is done to them
    referee      whether the result is valid, decided without the loader
    campaign     the loader and the referee held to each other
"""
