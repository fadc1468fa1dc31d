"""Stores of embeddings in xarray: zones as Datasets, regions as DataArrays, the accessor."""
