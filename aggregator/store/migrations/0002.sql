-- When the person of a grant last proved to the identity provider who they are: refreshing ends with auth.reloginAfter.
ALTER TABLE grants ADD COLUMN logged_in_at REAL NOT NULL DEFAULT 0;
UPDATE grants SET logged_in_at = created_at;

-- The identity provider's refresh token of a login, encrypted, to ask it again whether the person may still come in.
-- `id` is the login's, and the grant's that came of it; `kept_until` ends a login of which none came.
CREATE TABLE login_tokens (
    id            TEXT NOT NULL PRIMARY KEY,
    refresh_token BLOB NOT NULL,
    generation    INTEGER NOT NULL,
    next_check_at REAL NOT NULL,
    kept_until    REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Who was signed out everywhere, and when: a login from before becomes no grant any more.
CREATE TABLE sign_outs (
    kind TEXT NOT NULL CHECK (kind IN ('person', 'client')),
    name TEXT NOT NULL,
    at   REAL NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
