"""The definition of every operation, evaluated in balls; one module per profile."""
