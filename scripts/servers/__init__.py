"""Private servers on free ports, from the programs that Debian installs: for tests, and for a stack on one machine."""
