"""The article's figures, drawn from exact numbers by `refpg.plots`, and a page to look at them."""
