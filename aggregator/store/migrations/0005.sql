-- When something was last asked with it. NULL is not known, and counts from the first purge that sees it.
ALTER TABLE connections ADD COLUMN used_at REAL;
