"""What is opened in which order, mode by mode; `server` puts it together. Nothing here decides anything itself."""
