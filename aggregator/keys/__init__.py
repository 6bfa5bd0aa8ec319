"""The keys that everything sealed and encrypted rests on: from a secret, a file or the desktop's keyring.

This room must not know what is sealed.
"""
