-- One-time ids: codes, flow states. Inserting is consuming.
CREATE TABLE spent (
    ticket     TEXT NOT NULL PRIMARY KEY,
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_by_end ON spent (expires_at);

CREATE TABLE grants (
    id           TEXT NOT NULL PRIMARY KEY,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    label        TEXT NOT NULL,
    client       TEXT NOT NULL,
    client_name  TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    scope        TEXT NOT NULL,
    resource     TEXT NOT NULL,
    created_at   REAL NOT NULL,
    expires_at   REAL NOT NULL,
    generation   INTEGER NOT NULL,
    rotated_at   REAL,
    last_used_at REAL,
    revoked_at   REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_person ON grants (issuer, subject);
CREATE INDEX grants_by_revocation ON grants (revoked_at) WHERE revoked_at IS NOT NULL;

-- Who last allowed which client to return where. Goes with the last grant that rests on it.
CREATE TABLE consents (
    user_key     TEXT NOT NULL,
    client       TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    scope        TEXT NOT NULL,
    at           REAL NOT NULL,
    last_grant   TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    PRIMARY KEY (user_key, client, redirect_uri)
) STRICT, WITHOUT ROWID;
CREATE INDEX consents_by_grant ON consents (last_grant);

-- The two tokens are encrypted, bound to person, upstream and column.
CREATE TABLE upstream_tokens (
    user_key      TEXT NOT NULL,
    upstream      TEXT NOT NULL,
    access_token  BLOB NOT NULL,
    refresh_token BLOB,
    token_type    TEXT NOT NULL,
    scope         TEXT,
    expires_at    REAL,
    PRIMARY KEY (user_key, upstream)
) STRICT, WITHOUT ROWID;

-- Our registrations at upstreams' authorization servers, encrypted like tokens.
CREATE TABLE upstream_clients (
    upstream      TEXT NOT NULL PRIMARY KEY,
    client_id     BLOB NOT NULL,
    client_secret BLOB,
    registration  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
