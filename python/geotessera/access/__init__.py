"""What a client reads pixels from: tiles, or the cells of a store in their place."""
