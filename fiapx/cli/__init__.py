"""The command line: local extraction, the client of a server, and the commands that run one."""
