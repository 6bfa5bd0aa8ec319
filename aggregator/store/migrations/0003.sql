-- One person's account at one upstream. The two tokens are encrypted, bound to person, upstream, issuer and column.
-- A row is its own lease: until `lease_until`, `lease_owner` refreshes it.
CREATE TABLE connections (
    user_key      TEXT NOT NULL,
    upstream      TEXT NOT NULL,
    id            TEXT NOT NULL,
    generation    INTEGER NOT NULL,
    access_token  BLOB,
    refresh_token BLOB,
    token_type    TEXT NOT NULL,
    scope         TEXT,
    expires_at    REAL,
    issuer        TEXT NOT NULL,
    client_id     TEXT NOT NULL,
    resource      TEXT,
    account       TEXT,
    connected_at  REAL NOT NULL,
    issued_at     REAL NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('connected', 'needs_login')),
    reason        TEXT,
    wanted_scope  TEXT,
    failures      INTEGER NOT NULL,
    next_try_at   REAL,
    lease_owner   TEXT,
    lease_until   REAL,
    PRIMARY KEY (user_key, upstream)
) STRICT, WITHOUT ROWID;

-- Nobody noted who issued the tokens so far: they are good until they expire, and their refresh tokens for nobody.
INSERT INTO connections
    SELECT user_key, upstream, lower(hex(randomblob(16))), 0, access_token, NULL, token_type, scope, expires_at,
           '', '', NULL, NULL, 0, 0, 'connected', NULL, NULL, 0, NULL, NULL, NULL
    FROM upstream_tokens;
DROP TABLE upstream_tokens;

-- What we are called at an authorization server, per issuer: credentials of one are never shown to another.
DROP TABLE upstream_clients;
CREATE TABLE registrations (
    upstream      TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    client_id     TEXT NOT NULL,
    client_secret BLOB,
    auth_method   TEXT NOT NULL,
    redirect_uri  TEXT NOT NULL,
    scope         TEXT,
    expires_at    REAL,
    PRIMARY KEY (upstream, issuer)
) STRICT, WITHOUT ROWID;
