"""Groups of parameters, and AdamW for large tables."""
