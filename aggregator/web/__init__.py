"""Who is in front of us: the application, its routes, and what every endpoint needs. The endpoints have own rooms."""
