"""A standalone server that speaks the Elasticsearch Inference API."""

__version__ = "0.1.0"
