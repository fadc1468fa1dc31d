"""Tiles that outputs need: what is there is checked and used, what is missing comes or is made."""
