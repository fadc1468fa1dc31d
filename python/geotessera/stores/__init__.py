"""Operations on the zones of a store: points, regions, patches and exports.

`geotessera.store` is their face. They take `zones.StoreZones`, or one zone at its own
coordinates, and know nothing of how bytes are had.
"""
