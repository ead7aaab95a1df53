"""Sample folders, decoding, and crop-and-scale as Vision does it."""
