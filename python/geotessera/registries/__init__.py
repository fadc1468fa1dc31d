"""What `geotessera.registry` is made of: its files, what they say of tiles, and names of before."""
