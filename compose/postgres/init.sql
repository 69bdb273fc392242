-- A database and a login a service. A login may connect to its own database alone.
-- The passwords are in files; SECRETS is their folder.
\set ON_ERROR_STOP on

\set auth_password `cat "$SECRETS/auth_password"`
\set processing_password `cat "$SECRETS/processing_password"`
\set notify_password `cat "$SECRETS/notify_password"`
\set monitor_password `cat "$SECRETS/monitor_password"`

CREATE ROLE auth LOGIN PASSWORD :'auth_password';
CREATE ROLE processing LOGIN PASSWORD :'processing_password';
CREATE ROLE notify LOGIN PASSWORD :'notify_password';

CREATE DATABASE auth OWNER auth;
CREATE DATABASE processing OWNER processing;
CREATE DATABASE notify OWNER notify;

REVOKE CONNECT, TEMPORARY ON DATABASE auth, processing, notify FROM PUBLIC;

-- Sees how the server does, of all databases, and none of their rows.
CREATE ROLE monitor LOGIN PASSWORD :'monitor_password' IN ROLE pg_monitor;
CREATE EXTENSION pg_stat_statements;
