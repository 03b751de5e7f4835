"""Evidence behind refpg: the certifier of its published values, and checks against other libraries."""
