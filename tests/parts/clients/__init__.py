"""Real clients, scripted: each logs in by its SDK's own OAuth, lists, calls one tool, and prints one JSON line.

These files run as scripts in their own environments; only `running` is imported.
"""
