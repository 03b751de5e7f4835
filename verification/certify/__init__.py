"""The certifier: published values enclosed by balls, wrong answers of known mistakes, measured amplification."""
