"""What is opened in which order, mode by mode, and what follows another configuration; `server` puts it together.

Nothing here decides anything itself.
"""
