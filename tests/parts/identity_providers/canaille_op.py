"""canaille with everything in memory: two people, one client, keys made at the start.

Usage: canaille_op.py '{"port": 1, "redirectUris": [...], "secret": "...", "password": "..."}'; prints "issuer URL".
"""

# A script for an environment of its own, with types that ours does not have.
# mypy: ignore-errors
from __future__ import annotations

import datetime
import json
import sys

from canaille import create_app
from canaille.app import models
from joserfc.jwk import ECKey, RSAKey
from werkzeug.serving import make_server


def main() -> None:
    asked = json.loads(sys.argv[1])
    keys = [RSAKey.generate_key(2048, auto_kid=True), ECKey.generate_key("P-256", auto_kid=True)]
    app = create_app(
        {
            "SECRET_KEY": "only-for-tests",
            "SERVER_NAME": f"127.0.0.1:{asked['port']}",
            "PREFERRED_URL_SCHEME": "http",
            "CANAILLE": {"DATABASE": "memory", "JAVASCRIPT": False, "HTMX": False},
            "CANAILLE_OIDC": {"ACTIVE_JWKS": [key.as_dict(private=True) for key in keys], "REQUIRE_NONCE": True},
        }
    )
    with app.app_context(), app.backend.session():
        for name in ("alice", "bob"):
            save(
                app,
                models.User,
                user_name=name,
                password=asked["password"],
                emails=[f"{name}@example.test"],
                family_name=name.title(),
                formatted_name=name.title(),
            )
        client = save(
            app,
            models.Client,
            client_id="aggregator",
            client_secret=asked["secret"],
            client_id_issued_at=datetime.datetime.now(datetime.UTC),
            client_name="aggregator",
            redirect_uris=asked["redirectUris"],
            token_endpoint_auth_method="client_secret_basic",
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            scope=["openid", "email", "profile", "groups"],
        )
        client.audience = [client]  # without it its ID tokens have no "aud"
        app.backend.save(client)
    print("issuer", f"http://127.0.0.1:{asked['port']}", flush=True)
    make_server("127.0.0.1", asked["port"], app, threaded=True).serve_forever()


def save(app, model, **fields):
    record = model(**fields)
    app.backend.save(record)
    return record


if __name__ == "__main__":
    main()
