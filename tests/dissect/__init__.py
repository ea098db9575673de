"""Exchanges read from real servers' traffic: recorded on loopback, taken through the whole pipeline, compared with what was said."""
