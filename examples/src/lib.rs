//! The svc command-line tool, the conformance runner and small daemons.
