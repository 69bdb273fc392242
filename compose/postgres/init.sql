-- A database and a login a service. A login may connect to its own database alone.
-- psql variables: auth_password, processing_password, notify_password.
\set ON_ERROR_STOP on

CREATE ROLE auth LOGIN PASSWORD :'auth_password';
CREATE ROLE processing LOGIN PASSWORD :'processing_password';
CREATE ROLE notify LOGIN PASSWORD :'notify_password';

CREATE DATABASE auth OWNER auth;
CREATE DATABASE processing OWNER processing;
CREATE DATABASE notify OWNER notify;

REVOKE CONNECT, TEMPORARY ON DATABASE auth, processing, notify FROM PUBLIC;
