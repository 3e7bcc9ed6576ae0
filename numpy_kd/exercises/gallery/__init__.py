"""Ten broken distillers, and the exercises made of them."""
