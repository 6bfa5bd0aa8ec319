"""Hypercorn, guarded: what its defects would do to others, and how often it may fail to accept.

This room must not know the application.
"""
