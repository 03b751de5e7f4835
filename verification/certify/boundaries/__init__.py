"""Cases where a quantity vanishes, saturates, overflows or sits beside an edge; one module per profile.

A boundary hides most mistakes and shows a few that nothing else shows: each case says which.
"""
