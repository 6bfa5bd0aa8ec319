-- What reached one process and concerns another; lives for a minute. The body is encrypted, bound to the rest of its row.
-- AUTOINCREMENT: a number is never given twice, also when every row has gone meanwhile.
CREATE TABLE mail (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL,
    recipient  TEXT NOT NULL,
    body       BLOB NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX mail_by_recipient ON mail (recipient, seq);
CREATE INDEX mail_by_end ON mail (expires_at);

-- What a client with handshakes said about its session: log level, subscriptions, the end. Encrypted, bound to its id.
CREATE TABLE client_sessions (
    id         TEXT NOT NULL PRIMARY KEY,
    owner      TEXT NOT NULL,
    content    BLOB NOT NULL,
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX client_sessions_by_owner ON client_sessions (owner, expires_at);
CREATE INDEX client_sessions_by_end ON client_sessions (expires_at);
