"""Ordinary NumPy code for every operation, as a practitioner writes it; one module per profile."""
